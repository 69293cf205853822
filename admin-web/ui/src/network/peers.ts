/** Peers in lists: what is found by which words, and their order. */

import type { Order } from '../parts/SortHead.svelte';
import { byName, textOfLabels } from '../text';
import { LOCATION_FIELDS, type CloudLocation, type Peer } from '../types';

/** Everything of a peer that one can search for. */
export function textOf(peer: Peer): string {
  const endpoints = peer.endpoints.map((endpoint) => endpoint.address);
  const parts = [peer.hostName, peer.hostId, peer.ipv4Address, peer.state, peer.publicKey, textOfLabels(peer.labels)];
  return [...parts, presenceOf(peer), ...endpoints, ...placeOf(peer.location)].join(' ').toLowerCase();
}

/** A machine with plain WireGuard is nobody's to be seen or missed. */
function presenceOf(peer: Peer): 'online' | 'offline' | 'plain' {
  if (peer.plain) return 'plain';
  return peer.online ? 'online' : 'offline';
}

/** The known parts of a location, from the largest to the smallest. */
export function placeOf(location: CloudLocation | null): string[] {
  return LOCATION_FIELDS.map((field) => location?.[field]?.value ?? '').filter((value) => value !== '');
}

/** A dotted address as a number, so that .9 comes before .10. */
function addressOf(peer: Peer): number {
  return peer.ipv4Address.split('.').reduce((sum, part) => sum * 256 + Number(part || 0), 0);
}

const KEYS: Record<string, (peer: Peer) => string | number> = {
  name: (peer) => peer.hostName,
  address: addressOf,
  state: (peer) => peer.state,
  online: (peer) => ['online', 'offline', 'plain'].indexOf(presenceOf(peer)),
  location: (peer) => placeOf(peer.location).join(' '),
};

export function sorted(peers: Peer[], order: Order): Peer[] {
  const key = KEYS[order.by] ?? addressOf;
  const keyed = peers.map((peer) => ({ peer, key: key(peer) }));
  const compare = (one: string | number, other: string | number) =>
    typeof one === 'number' && typeof other === 'number' ? one - other : byName(String(one), String(other));
  keyed.sort((one, other) => compare(one.key, other.key) || byName(one.peer.hostName, other.peer.hostName));
  if (order.falling) keyed.reverse();
  return keyed.map(({ peer }) => peer);
}

/** Names of peers by id, as they were given. */
export function namesOf(peers: readonly Peer[]): Map<string, string> {
  return new Map(peers.map((peer) => [peer.hostId, peer.hostName]));
}
