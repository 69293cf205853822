/** The service goes away and comes back: the page says so, and is up to date again by itself. */

import assert from 'node:assert/strict';
import { open, signIn } from '../acts.js';
import { admin, startServer, stopServer } from '../world.js';

export default async function ({ page, expected }) {
  expected.push(/ERR_/u, /status of 50[234]/u);
  await admin('network', 'create', 'early', '--hosts', '10');
  await page.goto('/');
  await signIn(page);
  await open(page, 'networks');
  await page.getByRole('link', { name: 'early' }).waitFor();
  let loads = 0;
  page.on('load', () => (loads += 1));

  await stopServer();
  const banner = page.getByText('Connection lost.');
  await banner.waitFor();
  assert.ok(await page.getByRole('link', { name: 'early' }).isVisible(), 'what was known is gone');

  const read = page.waitForResponse((response) => /\/api\/v1\/networks\?/u.test(response.url()) && response.ok());
  await startServer();
  await banner.waitFor({ state: 'detached' });
  await read;
  await admin('network', 'create', 'late', '--hosts', '10');
  await page.getByRole('link', { name: 'late' }).waitFor();
  assert.equal(loads, 0, 'the page was loaded again');
}
