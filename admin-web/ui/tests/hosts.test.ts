import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draft, draftsOf, misspelt, requestOf } from '../src/deployment/hosts';

test('a pasted line names a machine in every way that is promised', () => {
  const [full, short, lone, v6] = draftsOf(`
    # bastions
    aws-1 debian@192.0.2.10:2222 bastion=jump tier=db zone=a
    gcp-1 198.51.100.7
    203.0.113.9
    v6 root@[2001:db8::1]:22
  `);
  assert.deepEqual(
    { ...full, id: 0 },
    { ...draft({ name: 'aws-1', address: '192.0.2.10', port: '2222', user: 'debian', bastion: 'jump', labels: 'tier=db, zone=a' }), id: 0 },
  );
  assert.deepEqual([short?.name, short?.address, short?.port, short?.user], ['gcp-1', '198.51.100.7', '', '']);
  assert.deepEqual([lone?.name, lone?.address], ['203-0-113-9', '203.0.113.9']);
  assert.deepEqual([v6?.address, v6?.port, v6?.user], ['2001:db8::1', '22', 'root']);
});

test('an IPv6 address without brackets is no address with a port', () => {
  assert.deepEqual(draftsOf('v6 2001:db8::1').map((row) => [row.address, row.port]), [['2001:db8::1', '']]);
});

test('what a machine does not say itself is said by the defaults, and empty fields are not sent', () => {
  const rows = [draft({ name: 'a', address: '192.0.2.1' }), draft({ name: 'b', address: '192.0.2.2', user: 'root', privateKey: 'own' })];
  assert.deepEqual(requestOf(rows, { user: 'debian', privateKey: 'shared' }), [
    { name: 'a', address: '192.0.2.1', user: 'debian', privateKey: 'shared' },
    { name: 'b', address: '192.0.2.2', user: 'root', privateKey: 'own' },
  ]);
});

test('what cannot be sent as it stands is told and never left out', () => {
  assert.deepEqual(misspelt(draft()), []);
  assert.deepEqual(misspelt(draft({ port: '2222', labels: 'tier=db', location: 'provider=aws, region=eu-west-1' })), []);
  for (const port of ['ssh', '0', '65536', '-1', '1e3', '22.5']) assert.deepEqual(misspelt(draft({ port })), ['port']);
  assert.deepEqual(misspelt(draft({ labels: 'db', location: '=aws' })), ['labels', 'location']);
});
