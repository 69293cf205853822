// Deployments of the stand-in service: every machine goes its way in a few seconds; one named `bad` fails, and one named
// `new` shows a key that somebody has to confirm.
const STEPS = ['waiting', 'connecting', 'inspecting', 'uploading', 'installing', 'joining', 'verifying', 'done'];
const FINGERPRINT = 'SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU';
const made = [];
const keys = [{ address: '192.0.2.10:22', fingerprint: FINGERPRINT, algorithm: 'ssh-ed25519', pinnedAt: new Date().toISOString(), pinnedBy: 'k-admin' }];
const transcripts = new Map();
let serial = 1;

function forward(host) {
  host.startedAt ??= new Date().toISOString();
  const next = STEPS[STEPS.indexOf(host.state) + 1];
  transcripts.set(host, `${transcripts.get(host) ?? ''}${new Date().toISOString()} ${next}: $ uname -sm; id -u\nLinux x86_64\n0\n`);
  if (host.name === 'bad' && next === 'installing') {
    Object.assign(host, { failure: 'no-tun', detail: 'there is no /dev/net/tun; load the tun module or allow it in the container, then deploy again', failedDuring: 'installing', state: 'failed' });
  } else if (host.name === 'new' && next === 'inspecting' && !host.confirmed) {
    Object.assign(host, { state: 'confirm-host-key', offeredFingerprint: FINGERPRINT });
  } else {
    Object.assign(host, { state: next, system: 'Debian 12, x86_64, systemd' });
  }
  if (host.state === 'done' || host.state === 'failed') host.finishedAt = new Date().toISOString();
}

setInterval(() => {
  for (const { hosts } of made) {
    for (const host of hosts) if (!['done', 'failed', 'cancelled', 'confirm-host-key'].includes(host.state) && Math.random() < 0.6) forward(host);
  }
}, 700).unref();

function summed(one) {
  const count = (...states) => one.hosts.filter((host) => states.includes(host.state)).length;
  const left = one.hosts.length - count('done', 'failed', 'cancelled');
  return { ...one, state: left ? 'running' : 'finished', done: count('done'), failed: count('failed'), total: one.hosts.length, claimed: true, unconfirmed: count('confirm-host-key') };
}

/** Gives a deployment as it is, each time it is asked. */
export const deployment = (id) => () => summed(made.find((one) => one.deploymentId === id));

export function deployments({ tell, Refusal, list, byNetwork }) {
  const find = (id) => {
    const found = made.find((one) => one.deploymentId === id);
    if (!found) throw new Refusal(404, `there is no deployment ${id}`);
    return found;
  };
  const hostOf = (id, name) => find(id).hosts.find((host) => host.name === name);
  const create = (networkId, body) => {
    body.hosts.forEach((host, index) => {
      if (!host.address) throw new Refusal(422, 'is empty; give an address or a DNS name', `hosts[${index}].address`);
      if (!host.privateKey) throw new Refusal(422, 'is missing; paste a private key', `hosts[${index}].privateKey`);
    });
    const empty = { state: 'waiting', failure: '', detail: '', failedDuring: '', offeredFingerprint: '', hostId: '', agentVersion: '', system: '', startedAt: null, finishedAt: null };
    const hosts = body.hosts.map(({ name, address, port = 22, user, bastion = '' }) => ({ name, address, port, user, bastion, ...empty }));
    const deployment = { ...body, deploymentId: `d-${serial++}`, networkId, createdAt: new Date().toISOString(), createdBy: 'k-admin', cancelledAt: null, hosts };
    made.push(deployment);
    tell('deployment.created', { networkId, message: `deployment to ${hosts.length} machines` });
    return deployment;
  };
  return [
    ['GET', /^\/deployments$/, 'read', list('deployments', (query) =>
      byNetwork(made)(query).map((one) => ({ ...summed(one), hosts: [] })).filter((one) => query.get('running') !== 'true' || one.state === 'running'))],
    ['GET', /^\/deployments\/([^/]+)$/, 'read', ([id]) => summed(find(id))],
    ['POST', /^\/networks\/([^/]+)\/deployments$/, 'deploy', ([id], body) => summed(create(id, body))],
    ['POST', /^\/deployments\/([^/]+)\/cancel$/, 'deploy', ([id]) => {
      find(id).cancelledAt = new Date().toISOString();
      for (const host of find(id).hosts) if (host.state !== 'done' && host.state !== 'failed') host.state = 'cancelled';
      return {};
    }],
    ['POST', /^\/deployments\/([^/]+)\/hosts\/([^/]+)\/confirm$/, 'deploy', ([id, name]) => (Object.assign(hostOf(id, name), { confirmed: true, state: 'connecting' }), {})],
    ['GET', /^\/deployments\/([^/]+)\/hosts\/([^/]+)\/transcript$/, 'read', ([id, name]) => ({ text: transcripts.get(hostOf(id, name)) ?? '' })],
    ['GET', /^\/host-keys$/, 'read', list('hostKeys', () => keys)],
    ['DELETE', /^\/host-keys\/([^/]+)$/, 'deploy', ([address]) => (keys.splice(keys.findIndex((key) => key.address === address), 1), {})],
  ];
}
