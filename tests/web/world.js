/** The world of a story, which the test that started us holds: facts first, then wishes and their answers, a line of JSON each. */

import { createInterface } from 'node:readline';

const waiting = [];
const heard = [];
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => (waiting.length > 0 ? waiting.shift()(line) : heard.push(line)));
// Nobody is there any more: the browser goes too, by its own handler of this signal.
lines.on('close', () => process.kill(process.pid, 'SIGTERM'));

async function hear() {
  return JSON.parse(heard.shift() ?? (await new Promise((resolve) => waiting.push(resolve))));
}

async function wish(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
  const { error, value } = await hear();
  if (error) throw new Error(error);
  return value;
}

/**
 * `url` of the service, the first `key`, the directory `failures` for what is left when a story fails, and what the story is
 * `given` beside.
 */
export const facts = await hear();

/** Runs `cladnet` as the admin and gives the JSON it prints. */
export const admin = (...words) => wish({ admin: words });

/** Installs an agent on a VM, under a host name of one's choice, and joins it to a network. */
export const join = (vm, network, hostName = vm) => wish({ join: { vm, network, hostName } });

export const stopServer = () => wish('stopServer');

/** Returns when the service is healthy again. */
export const startServer = () => wish('startServer');

/** Where a machine is reached by SSH: its `address` and `host_key`. */
export const machine = (vm) => wish({ machine: vm });

/** What a measurement came to. */
export const found = (value) => wish({ found: value });
