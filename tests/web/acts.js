/** What people do on the page, by what they see: labels, headings, rows. */

import { randomBytes } from 'node:crypto';
import { until } from './visit.js';
import { facts } from './world.js';

const button = (within, name) => within.getByRole('button', { name, exact: true });

/** Signs in where one is. */
export async function signIn(page, key = facts.key) {
  await page.getByLabel('API key').fill(key);
  await button(page, 'Sign in').click();
  await button(page, 'Sign out').waitFor();
}

/** Goes to a place of the page, as a link or a bookmark would. */
export async function open(page, ...segments) {
  await page.goto(`/#/${segments.map(encodeURIComponent).join('/')}`);
}

/** Returns when a page is there and nothing of it is still to come. */
export async function settled(page) {
  await page.getByRole('main').locator('h1, h2').first().waitFor();
  await until('the page to be read', async () => (await page.locator('.loading').count()) === 0);
}

export const dialog = (page, title) => page.getByRole('dialog', { name: title });

/** Presses a button inside `within` that is called exactly so. */
export const press = (within, name) => button(within, name).first().click();

/** Rows of the table of that name; a row counts as one only if it holds something. */
export const rows = (page, table) => page.getByRole('table', { name: table }).locator('tbody tr:not(.space)');

/** The row that a name heads. */
export const row = (page, table, name) => rows(page, table).filter({ has: page.getByRole('rowheader', { name }) });

/** Asks why the path to that peer is as it is, and waits for the candidates: only a path to an agent has any. */
export async function why(page, destination) {
  await press(rows(page, 'Paths').filter({ has: page.getByRole('cell', { name: destination, exact: true }) }), 'Why');
  await page.getByRole('table', { name: 'Candidates' }).waitFor();
}

/** Calls the API with a key, past the page. */
export async function call(context, method, path, data, key = facts.key) {
  const answer = await context.request.fetch(`/api/v1${path}`, { method, data, headers: { authorization: `Bearer ${key}` } });
  if (!answer.ok()) throw new Error(`${method} ${path}: ${answer.status()} ${await answer.text()}`);
  return answer.status() === 204 ? undefined : answer.json();
}

/** Adds a machine with plain WireGuard, which costs nothing but its record. */
export function addPlainPeer(context, network, name, labels = {}) {
  const publicKey = randomBytes(32).toString('base64');
  return call(context, 'POST', `/networks/${network}/plain-peers`, { name, publicKey, labels });
}

/** Adds `vm-1` to `vm-COUNT`, every other one of team a or b, some at a time. */
export async function addPlainPeers(context, network, count) {
  const AT_A_TIME = 8;
  let made = 0;
  const some = async () => {
    while (made < count) {
      made += 1;
      await addPlainPeer(context, network, `vm-${made}`, { team: made % 2 === 0 ? 'b' : 'a' });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, some));
}
