import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byName, isolated, labelsOf, listOf, matches, pieces, plain, textOfLabels } from '../src/text';

test('a character that hides or turns text is spelt out', () => {
  assert.deepEqual(pieces('a\u202eb'), [
    { text: 'a', isMark: false },
    { text: 'U+202E', isMark: true },
    { text: 'b', isMark: false },
  ]);
  assert.equal(plain('\u200bx\u0000'), '[U+200B]x[U+0000]');
});

test('letters of every script stay as they are', () => {
  for (const text of ['', 'vm-1', 'שרת-1', '한국-서울', '<b>', '🙂']) assert.equal(plain(text), text);
});

test('what is written from right to left moves nothing beside it', () => {
  assert.equal(isolated('שרת-1'), '\u2068שרת-1\u2069');
  assert.equal(isolated('\u202eשרת'), '\u2068[U+202E]שרת\u2069');
  for (const text of ['', 'vm-1', '한국-서울']) assert.equal(isolated(text), text);
});

test('labels are read back as they were written', () => {
  assert.deepEqual(labelsOf('a=b, c=d=e,f='), { a: 'b', c: 'd=e', f: '' });
  assert.deepEqual(labelsOf(''), {});
  assert.deepEqual(labelsOf(textOfLabels({ x: '1', y: '2' })), { x: '1', y: '2' });
});

test('a label without a name or without a sign of equality is refused', () => {
  for (const text of ['a', '=b', 'a=b, c']) assert.equal(labelsOf(text), null);
});

test('lists are separated by anything people use', () => {
  assert.deepEqual(listOf(' a, b;c\nd  e '), ['a', 'b', 'c', 'd', 'e']);
});

test('every word must be there, in any order', () => {
  assert.ok(matches('aws-1 tunneling tier=db', 'DB aws'));
  assert.ok(!matches('aws-1 tunneling', 'aws gcp'));
  assert.ok(matches('anything', ''));
});

test('numbers in names are counted', () => {
  assert.deepEqual(['vm-10', 'vm-2', 'VM-1'].sort(byName), ['VM-1', 'vm-2', 'vm-10']);
});
