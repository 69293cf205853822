import assert from 'node:assert/strict';
import { test } from 'node:test';

/** A stream's connection whose fate the test decides. */
class Source extends EventTarget {
  static readonly CLOSED = 2;
  static all: Source[] = [];
  readyState = 0;
  constructor() {
    super();
    Source.all.push(this);
  }
  close() {
    this.readyState = Source.CLOSED;
  }
}

/** As the compiler of Svelte would leave it, where nobody looks on. */
const state = Object.assign((value: unknown) => value, { raw: (value: unknown) => value });

test('a refusal that is explained late does not end the stream that was opened since', async () => {
  let explain: (answer: { status: number }) => void = () => {};
  const fetch = () => new Promise((resolve) => (explain = resolve));
  Object.assign(globalThis, { $state: state, EventSource: Source, fetch });
  const { Stream } = await import('../src/stream');
  const told: string[] = [];
  const tell = (word: string) => () => void told.push(word);
  const stream = new Stream('/events/watch', { opened: tell('opened'), message: () => {}, broken: tell('broken'), crowded: tell('crowded') });
  const [first] = Source.all;
  first?.close();
  first?.dispatchEvent(new Event('error'));
  stream.retry();
  const second = Source.all[1];
  second?.dispatchEvent(new Event('open'));
  explain({ status: 502 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, ['opened']);
  assert.notEqual(second?.readyState, Source.CLOSED);
  stream.close();
});
