import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandOf, serviceOf } from '../src/network/join';

test('agents are sent to the service, also where the pages come from elsewhere', () => {
  assert.equal(serviceOf({ hostname: 'net.example', port: '8053' }), 'https://net.example:8053');
  assert.equal(serviceOf({ hostname: 'net.example', port: '8054' }), 'https://net.example:8053');
  assert.equal(serviceOf({ hostname: '[2001:db8::1]', port: '' }), 'https://[2001:db8::1]');
});

test('the command is what the agent understands', () => {
  assert.equal(commandOf('https://a:8053', 'cladnet1.x', false), 'cladnet-agent join https://a:8053 cladnet1.x');
  assert.equal(commandOf('https://a:8053', 'cladnet1.x', true), "echo 'cladnet1.x' | cladnet-agent join https://a:8053 --token-file -");
});
