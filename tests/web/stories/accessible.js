/**
 * Every page in light and dark, in English and Korean, on a desk and in a hand: nothing that keeps people out, by axe's rules,
 * and nothing that a phone cuts off. Then a network is made and deleted without a mouse. With `facts.pictures` a picture of
 * every page is left there.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join as under } from 'node:path';
import { addPlainPeer, call, dialog, open, press, row, rows, settled, signIn, why } from '../acts.js';
import { until } from '../visit.js';
import { admin, facts, machine } from '../world.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const DESK = { width: 1360, height: 850 };
/** How long agents may take to be there; a figure for failing, not a target. */
const DEPLOYED = 90_000;
const STREAM = /\/events\/watch$/u;
const PHONE = { width: 390, height: 844 };

/** Ids of deployments: one that has ended, and one that waits for a person. */
const deployed = {};

/** Each place, and what there is to wait for or to open. */
const PLACES = {
  networks: (page) => go(page, 'networks'),
  'network-new': async (page) => {
    await go(page, 'networks');
    await press(page, 'New network');
    await dialog(page, 'New network').getByText('recommended').waitFor();
  },
  peers: async (page) => {
    await go(page, 'networks', 'prod', 'peers');
    await row(page, 'Peers', 'one').getByText('tunneling').waitFor();
  },
  peer: async (page) => {
    await go(page, 'networks', 'prod', 'peers');
    await row(page, 'Peers', 'one').click();
    await dialog(page, 'one').waitFor();
  },
  'peer-edit': async (page) => {
    await PLACES.peer(page);
    await press(dialog(page, 'one'), 'Edit');
  },
  'peer-remove': async (page) => {
    await PLACES.peer(page);
    await press(dialog(page, 'one'), 'Remove peer');
  },
  'peers-down': async (page) => {
    await go(page, 'networks', 'prod', 'peers');
    await press(page, 'All down');
  },
  'peers-up': async (page) => {
    await go(page, 'networks', 'prod', 'peers');
    await press(page, 'All up');
    await press(dialog(page, 'Take peers up'), 'Up');
    await rows(page, 'Outcome').filter({ hasText: 'acknowledged' }).nth(1).waitFor();
  },
  'network-edit': async (page) => {
    await go(page, 'networks', 'prod');
    await press(page, 'Edit network');
  },
  'network-delete': async (page) => {
    await go(page, 'networks', 'prod');
    await press(page, 'Delete network');
  },
  paths: async (page) => {
    await go(page, 'networks', 'prod', 'paths');
    await rows(page, 'Paths').first().waitFor();
  },
  'path-why': async (page) => {
    await go(page, 'networks', 'prod', 'paths');
    await why(page, 'two');
  },
  connectivity: async (page) => {
    await go(page, 'networks', 'prod', 'connectivity');
    await page.locator('figure').nth(1).locator('canvas').first().waitFor();
  },
  join: async (page) => {
    await go(page, 'networks', 'prod', 'join');
    await press(page, 'Make a token');
    await page.getByText('The token is shown only now.').waitFor();
  },
  'network-events': (page) => go(page, 'networks', 'prod', 'events'),
  'network-deployments': (page) => go(page, 'networks', 'prod', 'deployments'),
  deployments: async (page) => {
    await go(page, 'deployments');
    await page.getByRole('table', { name: 'Deployments' }).getByText('confirm host key').waitFor();
  },
  'deployment-new': async (page) => {
    await go(page, 'networks', 'prod', 'deployments');
    await press(page, 'New deployment');
    await page.getByRole('dialog').waitFor();
  },
  'deployment-list': async (page) => {
    await PLACES['deployment-new'](page);
    await press(page.getByRole('dialog'), 'More');
    await press(page.getByRole('dialog'), 'Paste a list');
  },
  'deployment-ended': (page) => go(page, 'deployments', deployed.ended),
  'deployment-machine': async (page) => {
    await go(page, 'deployments', deployed.ended);
    await row(page, 'Machines', 'one').click();
    await dialog(page, 'one').getByText('joining').first().waitFor();
  },
  'deployment-failure': async (page) => {
    await go(page, 'deployments', deployed.ended);
    await row(page, 'Machines', 'wrong').click();
    await dialog(page, 'wrong').getByRole('alert').waitFor();
  },
  'deployment-running': (page) => go(page, 'deployments', deployed.running),
  'deployment-confirm': async (page) => {
    await go(page, 'deployments', deployed.running);
    await press(page, 'Compare host key');
    await page.getByRole('dialog').waitFor();
  },
  'host-keys': (page) => go(page, 'host-keys'),
  events: (page) => go(page, 'events'),
  'no-peers': (page) => go(page, 'networks', 'staging', 'peers'),
  'no-paths': (page) => go(page, 'networks', 'staging', 'paths'),
  'no-run': async (page) => {
    await go(page, 'networks', 'staging', 'connectivity');
    await page.getByText('0 pairs', { exact: true }).waitFor();
  },
  'no-tokens': (page) => go(page, 'networks', 'staging', 'join'),
  'no-deployments': (page) => go(page, 'networks', 'staging', 'deployments'),
  'no-network': (page) => go(page, 'networks', 'nowhere'),
  'no-page': (page) => go(page, 'nowhere'),
  lost: async (page) => {
    await page.route(STREAM, (route) => route.abort());
    await page.reload();
    await go(page, 'networks');
    await page.getByText('Connection lost.').waitFor();
  },
};

export default async function ({ page, context, expected }) {
  expected.push(/status of 404 .*nowhere/u, /ERR_FAILED .*watch$/u);
  await context.addInitScript(AXE);
  await page.setViewportSize(DESK);
  await furnish(context);
  const faults = [];
  await page.goto('/');
  await page.getByLabel('API key').waitFor();
  faults.push(...(await inEveryLight(page, 'sign-in')));
  await signIn(page);
  for (const [name, reach] of Object.entries(PLACES)) {
    await reach(page);
    faults.push(...(await inEveryLight(page, name)));
    for (let open = await page.getByRole('dialog').count(); open > 0; open -= 1) await page.keyboard.press('Escape');
  }
  assert.deepEqual(faults, []);
  await page.unroute(STREAM);
  await withoutAMouse(page);
}

async function furnish(context) {
  await admin('network', 'create', 'prod', '--hosts', '50', '--name', 'Production', '--description', 'Shops and their databases');
  await admin('network', 'create', 'staging', '--hosts', '10');
  await deploy(context);
  await addPlainPeer(context, 'prod', 'router-1', { site: 'seoul', tier: 'edge' });
  await until('both agents to answer', async () => {
    const run = await call(context, 'POST', '/networks/prod/connectivity-tests', { count: 3 });
    return run.results.filter((pair) => pair.received > 0).length === 2;
  });
  await call(context, 'POST', '/networks/prod/connectivity-runs', { count: 3 });
}

/** Agents come to two machines, and a third is not what it was taken for; then one shows a key that nobody knows. */
async function deploy(context) {
  const [one, two] = [await machine('one'), await machine('two')];
  const begin = async (...machines) => {
    const privateKey = readFileSync(facts.given.sshKey, 'utf8');
    const hosts = machines.map(({ name, address, host_key: hostKey, port }) => {
      return { name, address, port, hostKey, user: facts.given.sshUser, privateKey };
    });
    const { deploymentId } = await call(context, 'POST', '/networks/prod/deployments', { hosts });
    return deploymentId;
  };
  const stands = (id, wanted) =>
    until(`${id} to be ${wanted}`, async () => {
      const { hosts, state } = await call(context, 'GET', `/deployments/${id}`);
      const is = hosts.map((host) => host.state).join() === wanted;
      assert.ok(is || state === 'running', `it ended: ${hosts.map((host) => `${host.name} ${host.state} ${host.detail}`).join('; ')}`);
      return is;
    }, DEPLOYED);
  deployed.ended = await begin(one, two, { ...two, name: 'wrong', port: 2222, host_key: undefined });
  await stands(deployed.ended, 'done,done,failed');
  await call(context, 'DELETE', `/host-keys/${encodeURIComponent(`${two.address}:22`)}`);
  deployed.running = await begin(one, { ...two, host_key: undefined });
  await stands(deployed.running, 'done,confirm-host-key');
}

async function go(page, ...segments) {
  await open(page, ...segments);
  await settled(page);
}

/** What is wrong with the page as it is, in each light, size and language. */
async function inEveryLight(page, name) {
  const faults = [];
  for (const [size, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
    await page.setViewportSize(viewport);
    for (const light of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: light, reducedMotion: 'reduce' });
      await page.locator(`html[data-theme=${light}]`).waitFor();
      await page.evaluate(colouredThrough);
      // The light changes colours and nothing else.
      const rules = light === 'dark' ? ['color-contrast'] : undefined;
      faults.push(...(await axe(page, rules)).map((fault) => `${name}, ${size}, ${light}: ${fault}`));
      await picture(page, `${name}-${size}-${light}`);
    }
    if (size === 'phone') faults.push(...(await cutOff(page, name)));
    await page.emulateMedia({ colorScheme: 'light' });
    await speak(page, 'ko');
    if (size === 'phone') faults.push(...(await cutOff(page, `${name} in Korean`)));
    await picture(page, `${name}-${size}-korean`);
    await speak(page, 'en');
  }
  await page.setViewportSize(DESK);
  return faults;
}

async function picture(page, name) {
  if (facts.pictures) await page.screenshot({ path: under(facts.pictures, `${name}.png`) });
}

/** Changes the language also behind an open window, where nobody could press the button. */
async function speak(page, language) {
  await page.locator(`button[lang=${language}]`).evaluate((button) => button.click());
  await page.locator(`html[lang=${language}]`).waitFor();
  await page.evaluate(colouredThrough);
}

/** What does not fit a phone. */
async function cutOff(page, name) {
  const wide = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll('.scroll')]
      .filter((element) => element.scrollWidth > element.clientWidth)
      .map((element) => element.querySelector('table')?.innerText.slice(0, 60) ?? element.localName));
  return wide.map((what) => `${name}: wider than a phone: ${what}`);
}

/** In the page: returns when no colour is on its way to another one. */
async function colouredThrough() {
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
}

async function axe(page, rules) {
  const violations = await page.evaluate(async (only) => {
    const options = { resultTypes: ['violations'], ...(only && { runOnly: only }) };
    return (await window.axe.run(document, options)).violations;
  }, rules);
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return grave.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}

async function withoutAMouse(page) {
  await page.reload();
  await go(page, 'networks');
  await tabTo(page, page.getByRole('button', { name: 'New network' }));
  await page.keyboard.press('Enter');
  await page.keyboard.type('Keyboard');
  await page.keyboard.press('Tab');
  await page.keyboard.type('keyboard');
  await dialog(page, 'New network').getByText('recommended').waitFor();
  await tabTo(page, page.getByRole('button', { name: 'Create network' }));
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Keyboard' }).waitFor();
  await tabTo(page, page.getByRole('button', { name: 'Delete network' }));
  await page.keyboard.press('Enter');
  await tabTo(page, dialog(page, 'Delete network').getByRole('button', { name: 'Delete network' }));
  await page.keyboard.press('Enter');
  await page.getByText('Network keyboard is gone.').waitFor();
}

/** Presses Tab until something has the focus. */
async function tabTo(page, wanted) {
  await wanted.waitFor();
  for (let presses = 0; presses < 60; presses += 1) {
    if (await wanted.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab never reaches ${wanted}`);
}
