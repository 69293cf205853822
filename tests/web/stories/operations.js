/** The whole road of an operator: in, a network, machines, a test, a peer down and up, the network away, out. */

import assert from 'node:assert/strict';
import { call, dialog, press, row, rows, signIn } from '../acts.js';
import { until } from '../visit.js';
import { admin, join } from '../world.js';

export default async function ({ page, context }) {
  let loads = 0;
  page.on('load', () => (loads += 1));
  await page.goto('/');
  await aWrongKeyIsTheFieldsFault(page);
  await signIn(page);
  await aNetworkWithTheRecommendedSpace(page);
  await machinesAppear(page);
  await aTestIsRead(page, context);
  await downAndUp(page);
  assert.equal(loads, 1, 'the page was loaded again');
  await theNetworkGoes(page);
  await press(page, 'Sign out');
  await page.getByLabel('API key').waitFor();
  assert.deepEqual(await context.cookies(), []);
  await page.reload();
  await page.getByLabel('API key').waitFor();
}

async function aWrongKeyIsTheFieldsFault(page) {
  const field = page.getByLabel('API key');
  await field.fill('cladnet_key_wrong');
  await press(page, 'Sign in');
  const error = page.getByText('This key is not known, or it has expired.');
  await error.waitFor();
  assert.equal(await field.getAttribute('aria-invalid'), 'true');
  const described = (await field.getAttribute('aria-describedby')).split(' ');
  assert.ok(described.includes(await error.getAttribute('id')), 'the error does not belong to the field');
}

async function aNetworkWithTheRecommendedSpace(page) {
  await press(page, 'New network');
  const window = dialog(page, 'New network');
  await window.getByLabel('Name').fill('Production');
  await window.getByLabel('Id', { exact: true }).fill('prod');
  const best = window.locator('label').filter({ hasText: 'recommended' });
  await best.waitFor();
  assert.ok(await best.getByRole('radio').isChecked(), 'the recommended space is not chosen');
  const space = await best.locator('b').textContent();
  await press(window, 'Create network');
  await page.getByRole('heading', { name: 'Production' }).waitFor();
  await page.getByText(space, { exact: true }).waitFor();
  const made = await admin('network', 'show', 'prod');
  assert.equal(made.ipv4AddressSpace ?? made.network?.ipv4AddressSpace, space);
}

async function machinesAppear(page) {
  await page.getByRole('link', { name: 'Peers' }).click();
  await page.getByRole('heading', { name: 'No peers yet' }).waitFor();
  for (const vm of ['aws-1', 'aws-2', 'gcp-1']) {
    await join(vm, 'prod');
    await row(page, 'Peers', vm).waitFor();
  }
  for (const vm of ['aws-1', 'aws-2', 'gcp-1']) await row(page, 'Peers', vm).getByText('tunneling').waitFor();
  assert.equal(await rows(page, 'Peers').count(), 3);
  await page.getByText('3 of 3 online').waitFor();
}

async function aTestIsRead(page, context) {
  await page.getByRole('link', { name: 'Connectivity' }).click();
  await page.getByText('6 pairs').waitFor();
  await press(page, 'Start');
  await page.getByText('3 / 3').waitFor();
  await until('all six pairs', async () => (await rows(page, 'All pairs').count()) === 6);
  const { runs } = await call(context, 'GET', '/networks/prod/connectivity-runs');
  const { results } = await call(context, 'GET', `/networks/prod/connectivity-runs/${runs[0].runId}`);
  for (const pair of results) {
    const line = row(page, 'All pairs', pair.sourceName).filter({ has: page.getByRole('cell', { name: pair.destinationName }) });
    const cells = await line.getByRole('cell').allTextContents();
    assert.equal(cells[1], '0 %', `${pair.sourceName} loses packets: ${cells}`);
    const shown = Number.parseFloat(cells[2]);
    assert.ok(Math.abs(shown - pair.p50Us / 1000) < 0.06, `p50 of ${pair.p50Us} µs is shown as ${cells[2]}`);
  }
  const pictures = await page.locator('figure').all();
  assert.equal(pictures.length, 2);
  for (const picture of pictures) assert.ok((await colours(picture.locator('canvas').first())) > 8, 'a chart is empty');
}

/** How many colours a canvas shows. */
function colours(canvas) {
  return canvas.evaluate((element) => {
    const { data } = element.getContext('2d').getImageData(0, 0, element.width, element.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
}

async function downAndUp(page) {
  await page.getByRole('link', { name: 'Peers' }).click();
  await steer(page, 'Down', 'Take peers down');
  await row(page, 'Peers', 'gcp-1').getByText('released').waitFor();
  await steer(page, 'Up', 'Take peers up');
  await row(page, 'Peers', 'gcp-1').getByText('tunneling').waitFor();
}

async function steer(page, command, title) {
  await row(page, 'Peers', 'gcp-1').click();
  const drawer = dialog(page, 'gcp-1');
  await press(drawer, command);
  const window = dialog(page, title);
  await press(window, command);
  await window.getByRole('cell', { name: 'acknowledged' }).waitFor();
  await press(window.locator('.actions'), 'Close');
  await press(drawer, 'Close');
}

async function theNetworkGoes(page) {
  await press(page, 'Delete network');
  const window = dialog(page, 'Delete network');
  const last = window.getByRole('button', { name: 'Delete network' });
  assert.ok(await last.isDisabled(), 'a network with peers goes without confirmation');
  await window.getByLabel('Type prod to confirm').fill('pro');
  assert.ok(await last.isDisabled(), 'another word confirms too');
  await window.getByLabel('Type prod to confirm').fill('prod');
  await last.click();
  await page.getByRole('heading', { name: 'No networks yet' }).waitFor();
  await page.getByText('Network prod and its 3 peers are gone.').waitFor();
  const left = await admin('network', 'list');
  assert.equal((left.networks ?? left).length ?? 0, 0);
}
