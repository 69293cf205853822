/** An API key that holds all the streams it may have: the page asks instead, alarms nobody, and streams again when it can. */

import assert from 'node:assert/strict';
import { get } from 'node:https';
import { open, signIn } from '../acts.js';
import { admin, facts } from '../world.js';

const MOST = 10;
const WATCH = '/api/v1/events/watch';

export default async function ({ page, expected }) {
  expected.push(/status of 429 /u);
  const held = await Promise.all(Array.from({ length: MOST }, hold));
  assert.deepEqual(held.map((answer) => answer.statusCode), held.map(() => 200));

  const refused = page.waitForResponse((response) => response.url().endsWith(WATCH) && response.status() === 429);
  await page.goto('/');
  await signIn(page);
  await refused;
  await open(page, 'networks');
  await admin('network', 'create', 'asked', '--hosts', '10');
  await page.getByRole('link', { name: 'asked' }).waitFor();
  assert.equal(await page.getByText('Connection lost.').count(), 0, 'nothing was lost');

  const opened = page.waitForResponse((response) => response.url().endsWith(WATCH) && response.ok());
  for (const answer of held) answer.destroy();
  await opened;
  await admin('network', 'create', 'told', '--hosts', '10');
  await page.getByRole('link', { name: 'told' }).waitFor();
}

/** A stream of the same key, of a program elsewhere. */
function hold() {
  const options = { headers: { authorization: `Bearer ${facts.key}` }, rejectUnauthorized: false };
  return new Promise((resolve, reject) => {
    get(new URL(WATCH, facts.url), options, (answer) => {
      // Its end is ours.
      answer.on('error', () => {});
      answer.resume();
      resolve(answer);
    }).on('error', reject);
  });
}
