/** A line that swallows everything: the page notices that nothing comes any more, says so, and is up to date again by itself. */

import assert from 'node:assert/strict';
import { open, signIn } from '../acts.js';
import { lay } from '../line.js';
import { visit } from '../visit.js';
import { admin } from '../world.js';

/** The service says something every 15 s; who hears nothing for more than twice as long is alone. */
const NOT_YET = 30_000;
const BY_THEN = 40_000;

export default async function ({ browser }) {
  const line = await lay();
  const { page, faults, expected } = await visit(browser, { baseURL: line.url });
  expected.push(/ERR_/u);
  await page.clock.install();
  await page.goto('/');
  const watching = page.waitForResponse((response) => response.url().endsWith('/events/watch') && response.ok());
  await signIn(page);
  await watching;
  await admin('network', 'create', 'early', '--hosts', '10');
  await open(page, 'networks');
  await page.getByRole('link', { name: 'early' }).waitFor();
  let loads = 0;
  page.on('load', () => (loads += 1));

  line.swallow();
  const banner = page.getByText('Connection lost.');
  await page.clock.runFor(NOT_YET);
  assert.ok(!(await banner.isVisible()), 'a line that is quiet for a while is called dead');
  await page.clock.runFor(BY_THEN - NOT_YET);
  await banner.waitFor();
  assert.ok(await page.getByRole('link', { name: 'early' }).isVisible(), 'what was known is gone');

  await admin('network', 'create', 'late', '--hosts', '10');
  await banner.waitFor({ state: 'detached', timeout: 60_000 });
  await page.getByRole('link', { name: 'late' }).waitFor();
  assert.equal(loads, 0, 'the page was loaded again');
  assert.deepEqual(faults, []);
}
