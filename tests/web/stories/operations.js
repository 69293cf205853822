/**
 * The whole road of an operator: in, a network, agents onto machines by SSH, a test, a peer down and up, the network away, out.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { call, dialog, press, row, rows, signIn } from '../acts.js';
import { until } from '../visit.js';
import { admin, facts, machine } from '../world.js';

/** How long agents take to be there, on a machine that builds or tests something else; a figure for failing, not a target. */
const DEPLOYED = 90_000;
const STREAM = /\/deployments\/[^/]+\/watch$/u;
const MACHINES = ['aws-1', 'gcp-1'];

export default async function ({ page, context, expected }) {
  let loads = 0;
  page.on('load', () => (loads += 1));
  await page.goto('/');
  await aWrongKeyIsTheFieldsFault(page);
  await signIn(page);
  await aNetworkWithTheRecommendedSpace(page);
  await agentsAreDeployed(page);
  await peersAppear(page);
  await aDeploymentIsCancelled(page, expected);
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

/** One machine's host key is known, the other's is shown, compared and confirmed; the page follows both without asking. */
async function agentsAreDeployed(page) {
  const [known, unknown] = await Promise.all(MACHINES.map(machine));
  // Until its stream is open, which a busy machine takes seconds for, the page asks.
  let isStreamOpen = false;
  const polled = [];
  page.on('response', (response) => (isStreamOpen ||= response.ok() && /\/deployments\/[^/]+\/watch$/u.test(response.url())));
  page.on('request', (request) => isStreamOpen && /\/deployments\/[^/]+$/u.test(request.url()) && polled.push(request.url()));
  await page.getByRole('link', { name: 'Peers' }).click();
  await page.getByRole('heading', { name: 'No peers yet' }).waitFor();
  await page.getByRole('link', { name: 'Deploy over SSH' }).click();
  await startDeployment(page, [known, { ...unknown, host_key: '' }]);

  const one = row(page, 'Machines', known.name);
  const other = row(page, 'Machines', unknown.name);
  await other.getByRole('button', { name: 'Compare host key' }).waitFor();
  const asksForSomebody = page.getByRole('navigation', { name: 'Main' }).getByText('1 machine waits for its host key to be confirmed');
  await asksForSomebody.waitFor();
  await press(other, 'Compare host key');
  const window = dialog(page, `Is this really ${unknown.name}?`);
  const fingerprint = fingerprintOf(unknown.host_key);
  await window.getByText(fingerprint, { exact: true }).waitFor();
  await window.getByLabel('What the machine says').fill(fingerprint.replace(/.$/u, '!'));
  await window.getByText('This is another key.').waitFor();
  assert.ok(await window.getByRole('button', { name: 'Trust this key' }).isDisabled(), 'another key can be trusted');
  await window.getByLabel('What the machine says').fill(`256 ${fingerprint} root@${unknown.name} (ED25519)`);
  await press(window, 'Trust this key');

  for (const line of [one, other]) await line.getByText('done', { exact: true }).waitFor({ timeout: DEPLOYED });
  await page.getByRole('heading', { name: 'Install done' }).waitFor();
  await asksForSomebody.waitFor({ state: 'detached' });
  // Once after the key was confirmed, and once when an event says that all is done, which the stream has told and ended.
  assert.ok(polled.length <= 2, `the deployment was asked for ${polled.length} times: its stream tells`);
  await other.click();
  const drawer = dialog(page, unknown.name);
  await drawer.getByText('confirm-host-key').waitFor();
  await drawer.getByText(/joining/u).first().waitFor();
  await press(drawer, 'Close');
}

/** Fills in the dialog and sends it; the private key comes from its file. */
async function startDeployment(page, machines) {
  await press(page, 'New deployment');
  const window = dialog(page, 'New deployment');
  await window.getByLabel('User').first().fill(facts.given.sshUser);
  await window.getByLabel('Choose the private key’s file').first().setInputFiles(facts.given.sshKey);
  for (const [index, { name, address, host_key: hostKey }] of machines.entries()) {
    if (index > 0) await press(window, 'Another machine');
    const line = window.getByRole('group', { name: `Machine ${index + 1}` });
    await line.getByLabel('Name').fill(name);
    await line.getByLabel('Address', { exact: true }).fill(address);
    await press(line, 'More');
    await line.getByLabel('Host key').fill(hostKey);
  }
  await press(window, 'Start deployment');
  await page.getByRole('table', { name: 'Machines' }).waitFor();
}

/** As `ssh-keygen -l` writes it. */
function fingerprintOf(hostKey) {
  const [, blob] = hostKey.split(' ');
  return `SHA256:${createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=+$/u, '')}`;
}

async function peersAppear(page) {
  await page.getByRole('link', { name: 'prod' }).click();
  await page.getByRole('link', { name: 'Peers' }).click();
  for (const vm of MACHINES) await row(page, 'Peers', vm).getByText('tunneling').waitFor();
  assert.equal(await rows(page, 'Peers').count(), MACHINES.length);
  await page.getByText('2 of 2 online').waitFor();
}

/** One that waits for a person ends when it is cancelled. Its stream is refused, as when too many watch: the page asks instead. */
async function aDeploymentIsCancelled(page, expected) {
  expected.push(STREAM);
  await page.route(STREAM, (route) => route.fulfill({ status: 429 }));
  const third = await machine('aws-2');
  await page.getByRole('navigation', { name: 'Parts of the network' }).getByRole('link', { name: 'Deployments' }).click();
  await startDeployment(page, [{ ...third, host_key: '' }]);
  const line = row(page, 'Machines', third.name);
  await line.getByRole('button', { name: 'Compare host key' }).waitFor();
  await press(page, 'Cancel deployment');
  await line.getByText('cancelled').waitFor();
  await page.getByRole('heading', { name: 'Install cancelled' }).waitFor();
  await page.getByRole('link', { name: 'prod' }).click();
  await page.getByRole('table', { name: 'Deployments' }).getByText('cancelled').waitFor();
}

async function aTestIsRead(page, context) {
  await page.getByRole('link', { name: 'Connectivity' }).click();
  await page.getByText('2 pairs').waitFor();
  await press(page, 'Start');
  await page.getByText('2 / 2').waitFor();
  await until('both pairs', async () => (await rows(page, 'All pairs').count()) === 2);
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
  await window.getByText('2 peers lose their overlay address and every tunnel of this network').waitFor();
  await window.getByLabel('Type prod to confirm').fill('pro');
  assert.ok(await last.isDisabled(), 'another word confirms too');
  await window.getByLabel('Type prod to confirm').fill('prod');
  await last.click();
  await page.getByRole('heading', { name: 'No networks yet' }).waitFor();
  await page.getByText('Network prod and its 2 peers are gone.').waitFor();
  const left = await admin('network', 'list');
  assert.equal((left.networks ?? left).length ?? 0, 0);
}
