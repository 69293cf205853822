/** A network with a thousand peers: the table holds only what is in sight, and finds and sorts all of it. */

import assert from 'node:assert/strict';
import { addPlainPeers, call, open, press, rows, signIn } from '../acts.js';
import { until } from '../visit.js';
import { admin } from '../world.js';

const COUNT = 1000;
/** More rows than any window shows. */
const BOUND = 80;

export default async function ({ page, context }) {
  await admin('network', 'create', 'large', '--hosts', '2000');
  await addPlainPeers(context, 'large', COUNT);
  await page.goto('/');
  await signIn(page);
  await open(page, 'networks', 'large', 'peers');
  const table = page.getByRole('table', { name: 'Peers' });
  await table.waitFor();
  assert.equal(await table.getAttribute('aria-rowcount'), String(COUNT + 1));

  assert.deepEqual((await names(page)).slice(0, 3), ['vm-1', 'vm-2', 'vm-3']);
  await scroll(page, 20_000);
  await until('rows of the middle', async () => (await names(page)).includes('vm-505'));
  await scroll(page, 1e9);
  await until('the last row', async () => (await names(page)).at(-1) === `vm-${COUNT}`);

  await press(table, 'Name');
  await scroll(page, 0);
  await until('names falling', async () => (await names(page))[0] === `vm-${COUNT}`);
  await press(table, 'Overlay address');
  const addresses = await rows(page, 'Peers').locator('td.mono:nth-of-type(2)').allTextContents();
  const { peers } = await call(context, 'GET', '/networks/large/peers?pageSize=1000');
  const lowest = peers.map((peer) => peer.ipv4Address).sort((one, other) => numeric(one) - numeric(other))[0];
  assert.equal(addresses[0], lowest);
  assert.deepEqual(addresses, [...addresses].sort((one, other) => numeric(one) - numeric(other)));

  await page.getByRole('searchbox').fill('vm-777');
  await until('the one that is looked for', async () => (await names(page)).join() === 'vm-777');
  await page.getByText('1 of 1,000').waitFor();
  await page.getByRole('searchbox').fill('team=b');
  await page.getByText('500 of 1,000').waitFor();
  await until('a bounded table', async () => (await rows(page, 'Peers').count()) <= BOUND);
  await page.getByRole('searchbox').fill('nobody');
  await page.getByText('No peer matches.').waitFor();
}

const numeric = (address) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

async function names(page) {
  const found = await rows(page, 'Peers').locator('th bdi').allTextContents();
  assert.ok(found.length <= BOUND, `${found.length} rows are in the document`);
  return found;
}

const scroll = (page, top) => page.locator('.window').evaluate((element, to) => (element.scrollTop = to), top);
