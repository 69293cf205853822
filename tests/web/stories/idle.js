/** A page that nobody has touched for ten minutes asks for nothing, so that its session can end; a hand wakes it. */

import assert from 'node:assert/strict';
import { addPlainPeer, open, row, signIn } from '../acts.js';
import { until } from '../visit.js';
import { admin } from '../world.js';

const IDLE = 10 * 60_000;
const MINUTE = 60_000;
/** The clock runs ahead of the heartbeats: the stream of events is taken for dead and opened again meanwhile. */
const STREAM = /\/(events\/watch|session)$/u;

export default async function ({ page, context }) {
  await admin('network', 'create', 'prod', '--hosts', '10');
  await addPlainPeer(context, 'prod', 'one');
  await page.clock.install();
  await page.goto('/');
  await signIn(page);
  await open(page, 'networks', 'prod', 'peers');
  await row(page, 'Peers', 'one').waitFor();
  const asked = [];
  const underWay = new Set();
  page.on('request', (request) => {
    if (STREAM.test(request.url())) return;
    asked.push(request.url());
    underWay.add(request);
  });
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, (request) => underWay.delete(request));

  const banner = page.getByText('Paused: nobody has touched the page for 10 minutes.');
  await page.clock.fastForward(IDLE - MINUTE);
  await until('the list to be read while somebody may look', () => asked.some((url) => url.includes('/peers?')));
  assert.ok(!(await banner.isVisible()), 'it rests too early');
  await page.clock.fastForward(MINUTE);
  await banner.waitFor();
  await until('what was asked for to be there', () => underWay.size === 0);

  asked.length = 0;
  await page.clock.runFor(5 * MINUTE);
  await addPlainPeer(context, 'prod', 'two');
  await page.clock.runFor(MINUTE);
  assert.deepEqual(asked, [], 'a page that rests keeps its session alive');

  await page.mouse.move(200, 200);
  await banner.waitFor({ state: 'detached' });
  await row(page, 'Peers', 'two').waitFor();
}
