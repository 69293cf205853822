// What the stand-in service knows: one large network, one small one, and whatever is made while it runs.
import { deployment, deployments } from './deployments.js';

const PLACES = [
  ['aws', 'ap-northeast-2', 'ap-northeast-2a', 'vpc-0a1b'],
  ['gcp', 'asia-northeast3', 'asia-northeast3-b', 'default'],
  ['azure', 'koreacentral', '1', 'vnet-prod'],
  ['alibaba', 'ap-northeast-1', 'ap-northeast-1a', 'vpc-6we'],
];
const ODD = ['db-\u202egnp.exe', 'שרת-1', '한국-서울-데이터베이스', '<img src=x onerror=alert(1)>'];
const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const pick = (list) => list[Math.floor(random() * list.length)];

function peer(networkId, index) {
  const [provider, region, zone, vpc] = PLACES[index % PLACES.length];
  const state = index % 17 === 5 ? 'failed' : index % 11 === 3 ? 'configuring' : 'tunneling';
  const field = (value, source) => ({ value, source });
  return {
    networkId,
    hostId: `h-${(index + 4096).toString(16)}${Math.floor(random() * 1e8).toString(16)}`,
    hostName: index > 5 && index - 6 < ODD.length ? ODD[index - 6] : `${provider}-${index + 1}`,
    ipv4Address: `10.${20 + (index >> 16)}.${(index >> 8) & 255}.${(index & 255) + 1}`,
    publicKey: Buffer.from(Array.from({ length: 32 }, () => Math.floor(random() * 256))).toString('base64'),
    state,
    stateReason: state === 'failed' ? 'the agent cannot open /dev/net/tun: operation not permitted' : '',
    desiredState: index % 13 === 4 ? 'down' : 'up',
    online: index % 9 !== 7,
    endpoints: [
      { address: `192.168.${index & 255}.10:8055`, scope: 'private', source: 'interface' },
      { address: `203.0.113.${(index & 127) + 1}:8055`, scope: 'public', source: 'stun' },
      ...(index % 3 ? [] : [{ address: `[2001:db8::${index.toString(16)}]:8055`, scope: 'public-v6', source: 'interface' }]),
    ],
    location: {
      provider: field(provider, 'metadata'),
      account: null,
      region: field(region, index % 4 === 1 ? 'operator' : 'metadata'),
      zone: field(zone, 'metadata'),
      vpc: field(vpc, 'injected'),
      subnet: null,
      instance: field(`i-${index.toString(16).padStart(8, '0')}`, 'metadata'),
    },
    labels: index % 2 ? { tier: pick(['db', 'web', 'cache']), team: 'core' } : {},
    plain: index === 9,
    joinedAt: ago(index * 3600),
    agentVersion: '0.1.0',
  };
}

function pathBetween(one, other) {
  const near = one.location.provider.value === other.location.provider.value;
  const isLost = other.state === 'failed';
  return {
    source: one.hostId,
    destination: other.hostId,
    scope: isLost ? '' : near ? 'private' : 'public',
    endpoint: isLost ? '' : other.endpoints[near ? 0 : 1].address,
    rttUs: isLost ? 0 : Math.round((near ? 400 : 28000) * (0.8 + random())),
    lastHandshakeAt: isLost ? null : ago(60 * random()),
    sentBytes: String(Math.floor(random() * 1e9)),
    receivedBytes: String(Math.floor(random() * 1e8)),
    usdPerGb: isLost ? '' : near ? '0' : '0.09',
    detail: isLost ? 'no candidate answered a probe in the last 30 s' : '',
  };
}

function pairBetween(one, other) {
  const path = pathBetween(one, other);
  const us = path.rttUs;
  const received = us === 0 ? 0 : random() < 0.03 ? 2 : 3;
  return {
    ...{ source: one.hostId, destination: other.hostId, sourceName: one.hostName, destinationName: other.hostName },
    ...{ sent: 3, received, lossPercent: ((3 - received) / 3) * 100, minUs: us * 0.9, avgUs: us, maxUs: us * 1.3 },
    ...{ stddevUs: us * 0.05, p50Us: us, p90Us: us * 1.2, p99Us: us * 1.3, error: us === 0 ? 'no reply' : '' },
  };
}

export function world(count) {
  const network = (networkId, name, ipv4AddressSpace, peerCount) => ({
    ...{ networkId, name, ipv4AddressSpace, description: '', ruleType: 'cost-prioritized', encryptionPolicy: 'always' },
    ...{ generation: '3', createdAt: ago(864000), peerCount },
  });
  const networks = [network('prod', 'Production', '10.20.0.0/16', count), network('lab', '', '10.99.0.0/24', 0)];
  networks[0].description = 'Databases and web servers in four clouds';
  const peers = { prod: Array.from({ length: count }, (_, index) => peer('prod', index)), lab: [] };
  const events = [];
  const runs = [];
  const tokens = [];
  let serial = 1000;
  const event = (kind, { networkId = '', hostId = '', message = kind } = {}) => {
    const made = { eventId: `e-${serial++}`, at: new Date().toISOString(), kind, networkId, hostId, actor: 'k-admin', message };
    events.unshift(made);
    return made;
  };
  for (const index of peers.prod.slice(0, 30).keys()) {
    const { hostName, hostId } = peers.prod[index];
    event('peer.joined', { networkId: 'prod', hostId, message: `${hostName} joined` });
    events[0].at = ago(3600 * index);
  }
  events.reverse();

  const list = (name, items) => (_, __, query) => {
    const size = Number(query.get('pageSize')) || 100;
    const start = Number(query.get('pageToken')) || 0;
    const all = items(query);
    return { [name]: all.slice(start, start + size), nextPageToken: start + size < all.length ? String(start + size) : '' };
  };

  function routes({ tell, Refusal }) {
    const find = (id) => {
      const found = networks.find((one) => one.networkId === id);
      if (!found) throw new Refusal(404, `there is no network ${id}`);
      return found;
    };
    const peerOf = (id, host) => peers[id].find((one) => one.hostId === host || one.hostName === host);
    const created = (body) => {
      if (body.networkId && networks.some((one) => one.networkId === body.networkId)) throw new Refusal(409, 'is taken', 'networkId');
      if (body.ipv4AddressSpace.startsWith('8.')) throw new Refusal(422, '8.8.8.0/24 is public; use a range of 10/8', 'ipv4AddressSpace');
      const id = body.networkId || `n-${serial++}`;
      networks.push({ ...network(id, '', '', 0), ...body, networkId: id, generation: '1', createdAt: ago(0) });
      peers[id] = [];
      tell('network.created', { networkId: id, message: `network ${id} created` });
      return find(id);
    };
    const updated = (id, { expectedGeneration, ...wish }) => {
      const found = find(id);
      if (expectedGeneration !== found.generation) throw new Refusal(409, `${id} has generation ${found.generation}, not ${expectedGeneration}`);
      Object.assign(found, wish, { generation: String(Number(found.generation) + 1) });
      tell('network.updated', { networkId: id, message: `network ${id} changed` });
      return found;
    };
    const recommended = ({ hosts, avoid }) => {
      if (!hosts || hosts > 1e6) throw new Refusal(422, 'must be between 1 and 1000000', 'hosts');
      const wrong = avoid.findIndex((cidr) => !/^[\d.]+\/\d+$/.test(cidr));
      if (wrong >= 0) throw new Refusal(422, `${avoid[wrong]} is no CIDR; write it as 10.0.0.0/16`, `avoid[${wrong}]`);
      const bits = 32 - Math.max(4, Math.ceil(Math.log2(hosts * 1.5 + 3)));
      const space = (cidr, softConflicts) => ({ cidr: `${cidr}/${bits}`, capacity: 2 ** (32 - bits) - 2, reason: 'overlaps no VPC, subnet or route in sight', softConflicts });
      return { addressSpaces: [space('10.64.0.0', []), space('172.30.0.0', []), space('10.96.0.0', ['Kubernetes services use 10.96.0.0/12 by default'])], message: '' };
    };
    const steered = (id, { command, hostIds }) => {
      const whom = peers[id].filter((one) => hostIds.length === 0 || hostIds.includes(one.hostId));
      return {
        results: whom.map((one) => {
          one.desiredState = command === 'COMMAND_UP' ? 'up' : 'down';
          if (one.online) one.state = command === 'COMMAND_UP' ? 'tunneling' : 'released';
          return { hostId: one.hostId, outcome: one.online ? 'acknowledged' : 'offline', detail: '' };
        }),
      };
    };
    const listed = (id, query) => {
      const sources = query.getAll('sources');
      const from = peers[id].filter((one) => !one.plain && (sources.length === 0 || sources.includes(one.hostId)));
      return { paths: from.flatMap((one) => peers[id].filter((other) => other !== one).map((other) => pathBetween(one, other))), unreachable: [] };
    };
    const explained = (id, one, other) => {
      const path = pathBetween(peerOf(id, one), peerOf(id, other));
      const candidates = peerOf(id, other).endpoints.map((endpoint, index) => ({
        ...{ endpoint: endpoint.address, scope: endpoint.scope, rank: index < 2 ? index + 1 : 0, rttUs: index < 2 ? path.rttUs : 0 },
        state: ['in use', 'usable', 'excluded'][index],
        reason: ['0.01 $/GB in one region, 0.6 ms', '0.09 $/GB to the Internet, 28 ms', 'this host has no IPv6 address'][index],
      }));
      return { source: one, destination: other, ruleType: 'cost-prioritized', ruleIds: [], encryption: 'encrypted: the policy is always', candidates, summary: 'The private address is in use: it is the cheapest that answers.' };
    };
    const started = (id, { hosts }) => {
      const whom = peers[id].filter((one) => !one.plain && (hosts.length === 0 || hosts.includes(one.hostId)));
      const run = { runId: `r-${serial++}`, networkId: id, startedAt: ago(0), deadlineAt: ago(-10), asked: whom.length, answered: 0, done: false, results: [], missing: [], lossPercent: 0, p50Us: 0, leftOut: 0 };
      runs.unshift(run);
      const timer = setInterval(() => {
        const next = whom.slice(run.answered, run.answered + Math.ceil(whom.length / 5));
        run.answered += next.length;
        run.results.push(...next.flatMap((one) => whom.filter((other) => other !== one).map((other) => pairBetween(one, other))));
        if (next.length > 0) return;
        Object.assign(run, { done: true, lossPercent: 1.2, p50Us: 21400 });
        clearInterval(timer);
      }, 500);
      return run;
    };
    const minted = ({ networkId, uses, labels }) => {
      const token = { tokenId: `t-${serial++}`, networkId, usesLeft: uses, expiresAt: ago(-3600), labels, createdAt: ago(0), state: 'usable', createdBy: 'k-admin' };
      tokens.push(token);
      return { token, secret: `cladnet1.${'0a1b2c3d'.repeat(8)}.${'k7Qz'.repeat(8)}` };
    };
    const byNetwork = (items) => (query) => items.filter((one) => !query.get('networkId') || one.networkId === query.get('networkId'));
    return [
      ['GET', /^\/networks$/, 'read', list('networks', () => networks.map((one) => ({ ...one, peerCount: peers[one.networkId].length })))],
      ['POST', /^\/networks$/, 'manage-networks', (_, body) => created(body)],
      ['GET', /^\/networks\/([^/]+)$/, 'read', ([id]) => ({ ...find(id), peerCount: peers[id].length })],
      ['PATCH', /^\/networks\/([^/]+)$/, 'manage-networks', ([id], body) => updated(id, body)],
      ['DELETE', /^\/networks\/([^/]+)$/, 'manage-networks', ([id]) => {
        networks.splice(networks.indexOf(find(id)), 1);
        tell('network.deleted', { networkId: id, message: `network ${id} deleted` });
        return { removedPeers: peers[id].length };
      }],
      ['POST', /^\/address-spaces\/recommend$/, 'read', (_, body) => recommended(body)],
      ['GET', /^\/networks\/([^/]+)\/peers$/, 'read', ([id], body, query) => list('peers', () => (find(id), peers[id]))([id], body, query)],
      ['PATCH', /^\/networks\/([^/]+)\/peers\/([^/]+)$/, 'manage-peers', ([id, host], body) => {
        if (body.ipv4Address === '10.20.0.2') throw new Refusal(409, '10.20.0.2 is taken by gcp-2', 'ipv4Address');
        return Object.assign(peerOf(id, host), body.labels && { labels: body.labels });
      }],
      ['DELETE', /^\/networks\/([^/]+)\/peers\/([^/]+)$/, 'manage-peers', ([id, host]) => {
        peers[id] = peers[id].filter((one) => one.hostId !== host);
        tell('peer.removed', { networkId: id, hostId: host, message: `${host} removed` });
        return {};
      }],
      ['POST', /^\/networks\/([^/]+)\/control$/, 'control', ([id], body) => steered(id, body)],
      ['GET', /^\/networks\/([^/]+)\/paths$/, 'read', ([id], _, query) => listed(id, query)],
      ['POST', /^\/networks\/([^/]+)\/path-measurements$/, 'run-tests', ([id], { sources }) => listed(id, { getAll: () => sources })],
      ['GET', /^\/networks\/([^/]+)\/paths\/([^/]+)\/([^/]+)$/, 'read', ([id, one, other]) => explained(id, one, other)],
      ['POST', /^\/networks\/([^/]+)\/connectivity-runs$/, 'run-tests', ([id], body) => started(id, body)],
      ['GET', /^\/networks\/([^/]+)\/connectivity-runs$/, 'read', ([id]) => ({ runs: runs.filter((one) => one.networkId === id).map((one) => ({ ...one, results: [] })) })],
      ['GET', /^\/networks\/[^/]+\/connectivity-runs\/([^/]+)$/, 'read', ([run]) => runs.find((one) => one.runId === run)],
      ['GET', /^\/tokens$/, 'read', list('tokens', byNetwork(tokens))],
      ['POST', /^\/tokens$/, 'manage-tokens', (_, body) => minted(body)],
      ['DELETE', /^\/tokens\/([^/]+)$/, 'manage-tokens', ([id]) => ((tokens.find((one) => one.tokenId === id).state = 'revoked'), {})],
      ['GET', /^\/events$/, 'read', list('events', byNetwork(events))],
      ...deployments({ tell, Refusal, list, byNetwork }),
    ];
  }
  return { deployment, event, routes };
}
