/** A call that failed for a reason that passes is made again by itself, or when somebody asks; any other is not. */

import assert from 'node:assert/strict';
import { open, press, signIn } from '../acts.js';
import { admin } from '../world.js';

const LIST = /\/api\/v1\/networks\?/u;
/** Many times as long as until another attempt; not so long that the silent stream of events is taken for dead. */
const LONG = 30_000;

export default async function ({ page, expected }) {
  expected.push(/status of 50[03]/u);
  await admin('network', 'create', 'prod', '--hosts', '10');
  await page.clock.install();
  await page.goto('/');
  await signIn(page);
  await open(page, 'events');
  await page.getByText('network.created').waitFor();

  const passing = await refusing(page, 503, 'the store is away');
  await open(page, 'networks');
  await page.getByText('the store is away').waitFor();
  await passing.asked(2);
  await passing.end();
  await page.getByRole('link', { name: 'prod' }).waitFor();
  await page.getByText('the store is away').waitFor({ state: 'detached' });

  await open(page, 'events');
  await page.getByText('network.created').waitFor();
  const lasting = await refusing(page, 500, 'this is a bug');
  await open(page, 'networks');
  await page.getByText('this is a bug').waitFor();
  await page.clock.runFor(LONG);
  assert.equal(lasting.count(), 1, 'what will fail again is asked for again');
  await lasting.end();
  await press(page.getByRole('alert'), 'Try again');
  await page.getByRole('link', { name: 'prod' }).waitFor();
  await page.getByText('this is a bug').waitFor({ state: 'detached' });
}

/** The service refuses the list of networks from now on. */
async function refusing(page, status, detail) {
  let count = 0;
  const waiting = [];
  await page.route(LIST, async (route) => {
    await route.fulfill({ status, contentType: 'application/problem+json', json: { status, detail } });
    count += 1;
    waiting.filter(({ times }) => times <= count).forEach(({ resolve }) => resolve());
  });
  return {
    count: () => count,
    /** Returns when it was refused so many times. */
    asked: (times) => new Promise((resolve) => (count >= times ? resolve() : waiting.push({ times, resolve }))),
    end: () => page.unroute(LIST),
  };
}
