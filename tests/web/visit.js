/** A person's visit: a browser window in which nothing may go wrong unnoticed. */

import { chromium } from 'playwright-core';
import { facts } from './world.js';

/** Debian's; nothing is downloaded. */
const CHROMIUM = '/usr/bin/chromium';

/** How long a page may take for one thing; a figure for failing, not a target. */
const SOON = 20_000;

/** What a browser says of every visitor who is not signed in yet. */
const EXPECTED = [/status of 401 .*\/api\/v1\/session$/u];

export const openBrowser = () => chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });

/**
 * Opens a window. Errors of the console, thrown ones, violations of the content security policy and dialogs of the browser
 * gather in `faults`, unless they match a pattern of `expected`.
 */
export async function visit(browser, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: 'en-US', baseURL: facts.url, ...options });
  context.setDefaultTimeout(SOON);
  const faults = [];
  const expected = [...EXPECTED];
  const note = (text) => expected.some((pattern) => pattern.test(text)) || faults.push(text);
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI} ${event.sample}`);
    });
  });
  context.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()} at ${message.location().url}`);
  });
  context.on('weberror', (error) => note(`thrown: ${error.error()}`));
  context.on('dialog', (dialog) => {
    note(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  const page = await context.newPage();
  return { context, page, faults, expected };
}

/** Looks at a condition until it holds. */
export async function until(what, condition, patience = SOON) {
  const end = Date.now() + patience;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`waited ${patience} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
