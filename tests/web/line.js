/** A line between the browser and the service that can go dead without anybody being told, as behind a NAT that forgot it. */

import { connect, createServer } from 'node:net';
import { facts } from './world.js';

/** Passes everything on from `url` until [`swallow`] is called; ends with the process. */
export async function lay() {
  const { hostname, port } = new URL(facts.url);
  let pairs = [];
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    pairs.push([near, far]);
    near.pipe(far).pipe(near);
    // Whichever side breaks, the other one has nobody left.
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  /** From now on nothing arrives over the connections that are open; new ones work. */
  const swallow = () => {
    for (const [near, far] of pairs) {
      near.unpipe(far).resume();
      far.unpipe(near).resume();
    }
    pairs = [];
  };
  return { url: `https://127.0.0.1:${server.address().port}`, swallow };
}
