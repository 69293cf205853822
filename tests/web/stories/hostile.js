/**
 * Texts of others that try to be something else are text, wherever they stand: they become no element, and turn or hide
 * nothing beside them.
 */

import assert from 'node:assert/strict';
import { addPlainPeer, call, dialog, open, press, row, signIn, why } from '../acts.js';
import { join } from '../world.js';

const SCRIPT = '<script>alert(1)</script>';
const IMAGE = '"><img src=x onerror=alert(2)>';
const QUOTES = `'"\`{{7*7}}\${7*7}</b>&lt;`;
const MARKS = 'safe\u200fname';
const DESCRIPTION = `${IMAGE} ${QUOTES} \u05d0\u200f javascript:alert(3)`;
/** A kernel takes 64 bytes as a host name, whatever they are. */
const HOST = '<img/src=x onerror=alert(4)>';
/** Written from right to left: beside it figures and signs would change places. */
const LEFTWARD = '\u05e9\u05e8\u05ea-2';
/** What an agent may say went wrong. */
const ERROR = `no \u202egnp.exe\u2066 10.0.0.1 ${LEFTWARD}`;

export default async function ({ page, context, expected }) {
  expected.push(/status of 40[04] /u, /status of 422 /u);
  await call(context, 'POST', '/networks', {
    networkId: 'evil', name: SCRIPT, description: DESCRIPTION, expectedHosts: 10, ipv4AddressSpace: '10.99.0.0/16',
  });
  for (const name of [SCRIPT, IMAGE, QUOTES, MARKS, `${LEFTWARD.slice(0, 2)} (1)`]) await addPlainPeer(context, 'evil', name, { team: 'a' });
  const { secret } = await call(context, 'POST', '/keys', { role: 'admin', name: IMAGE });
  await join('one', 'evil', HOST);
  await join('two', 'evil', LEFTWARD);
  await locate(context);

  await page.goto('/');
  await signIn(page, secret);
  await says(page.getByRole('banner'), IMAGE);
  await open(page, 'networks');
  await says(page.getByRole('main'), SCRIPT, IMAGE, QUOTES);

  await open(page, 'networks', 'evil', 'peers');
  await says(page.getByRole('main'), SCRIPT, IMAGE, QUOTES, HOST, LEFTWARD, 'U+200F');
  await page.getByRole('searchbox').fill(IMAGE);
  await page.getByText('1 of 7').waitFor();
  await page.getByRole('searchbox').fill('');
  for (const name of [SCRIPT, HOST, LEFTWARD]) await drawerOf(page, name);

  const failing = await amended(page, /\/paths$/u, ({ paths }) => paths.forEach((path) => Object.assign(path, NO_PATH)));
  await open(page, 'networks', 'evil', 'paths');
  await says(page.getByRole('table', { name: 'Paths' }), HOST, 'U+202E', 'U+2066');
  await failing();
  await page.reload();
  await why(page, LEFTWARD);
  await says(page.getByRole('dialog'), HOST, LEFTWARD);
  await page.keyboard.press('Escape');

  const unheard = await amended(page, /\/connectivity-runs\/[^/]+$/u, ({ results }) =>
    results.slice(0, 1).forEach((pair) => Object.assign(pair, { error: ERROR, received: 0 })));
  await open(page, 'networks', 'evil', 'connectivity');
  await press(page, 'Start');
  await says(page.getByRole('table', { name: 'All pairs' }), HOST, 'U+202E');
  await unheard();
  await page.locator('figure [role=img]').first().hover({ position: { x: 200, y: 60 } });

  await open(page, 'networks', 'evil', 'join');
  await page.getByLabel('Labels').fill(`${SCRIPT}=${IMAGE}`);
  await press(page, 'Make a token');
  await page.getByRole('alert').first().waitFor();

  for (const place of [['networks', 'evil', 'events'], ['events']]) {
    await open(page, ...place);
    await says(page.getByRole('main'), IMAGE);
  }
  await dialogsOf(page);
  await open(page, 'networks', IMAGE, SCRIPT);
  await says(page.getByRole('heading'), IMAGE);
  await page.getByRole('alert').first().waitFor();
  await nothingCameAlive(page);
}

const NO_PATH = { endpoint: '', scope: '', detail: ERROR };

/** Changes what the service answers, as if an agent had told it so; gives how to end that. */
async function amended(page, address, change) {
  const amend = async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    change(json);
    await route.fulfill({ response, json });
  };
  await page.route(address, amend);
  return () => page.unroute(address, amend);
}

/** Says of the machine with the name from right to left where it is. */
async function locate(context) {
  const { peers } = await call(context, 'GET', '/networks/evil/peers');
  const { hostId } = peers.find((peer) => peer.hostName === LEFTWARD);
  await call(context, 'PUT', `/hosts/${hostId}/location`, { provider: LEFTWARD, region: MARKS, vpc: `vpc-1 ${LEFTWARD}` });
}

async function says(within, ...texts) {
  for (const text of texts) await within.getByText(text).first().waitFor();
  await nothingCameAlive(within.page());
}

/** No text of theirs became an element, and none reaches beyond itself. */
async function nothingCameAlive(page) {
  const alive = await page.locator('[onerror], [src="x"], script:not([src]), #app script, a[href^="javascript:"]').count();
  assert.equal(alive, 0, 'a name became markup');
  assert.deepEqual(await page.evaluate(texts), [], 'these turn or hide what stands beside them');
}

/** In the page: texts and titles with a mark that is obeyed, or with letters from right to left that nothing isolates. */
function texts() {
  const mark = /[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u;
  const leftward = /[\u0590-\u08ff]/u;
  const isBare = (text, isApart) => {
    const isolates = /\u2068([^\u2066-\u2069]*)\u2069/gu;
    return mark.test(text.replace(isolates, '$1')) || (!isApart && leftward.test(text.replace(isolates, '')));
  };
  const found = [];
  const nodes = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const { data, parentElement } = nodes.currentNode;
    if (isBare(data, parentElement.closest('bdi, [dir=auto]') !== null)) found.push(`${parentElement.localName}: ${data}`);
  }
  for (const element of document.querySelectorAll('*')) {
    for (const name of ['title', 'aria-label', 'placeholder', 'alt']) {
      const value = element.getAttribute(name);
      if (value && isBare(value, false)) found.push(`${element.localName} ${name}: ${value}`);
    }
  }
  return found;
}

async function drawerOf(page, name) {
  await row(page, 'Peers', name).click();
  const drawer = dialog(page, name);
  await says(drawer, name);
  await press(drawer, 'Remove peer');
  await says(dialog(page, 'Remove peer'), name);
  await press(dialog(page, 'Remove peer'), 'Cancel');
  await press(drawer, 'Edit');
  await press(dialog(page, 'Edit'), 'Cancel');
  await press(drawer, 'Close');
}

async function dialogsOf(page) {
  await open(page, 'networks', 'evil');
  await press(page, 'Edit network');
  const edit = dialog(page, 'Edit network');
  assert.equal(await edit.getByLabel('Name').inputValue(), SCRIPT);
  assert.equal(await edit.getByLabel('Description').inputValue(), DESCRIPTION);
  await press(edit, 'Cancel');
  await press(page, 'Delete network');
  await says(dialog(page, 'Delete network'), SCRIPT);
  await press(dialog(page, 'Delete network'), 'Cancel');
}
