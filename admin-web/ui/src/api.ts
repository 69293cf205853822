/** Calls of `/api/v1` on the page's own origin. A refusal is a `Problem`: what is wrong, at which field, under which id. */

import type * as T from './types';

/** Items of a page: as many as the service gives at once. */
const PAGE = 1000;

/** No call takes longer, also over a line that swallows everything: tests that wait for agents end within a minute. */
const LONGEST_CALL = 90_000;

export interface Fault {
  /** Path in JSON names. */
  field: string;
  detail: string;
}

/** What the service, or the way to it, had to say instead of an answer. */
export class Problem extends Error {
  constructor(
    /** HTTP status; 0 if there was no answer at all. */
    readonly status: number,
    readonly detail: string,
    /** Path of the field at fault, in JSON names; empty if it is no field. */
    readonly field = '',
    readonly requestId = '',
    /** What is wrong with which field, if several are. */
    readonly errors: readonly Fault[] = [],
  ) {
    super(detail);
  }
}

/** Whether the same call may go well a moment later: there was no answer, or the service says so. */
export function isPassing(problem: Problem): boolean {
  return problem.status === 0 || [429, 502, 503, 504].includes(problem.status);
}

/** The problem behind anything that was thrown. */
export function problemOf(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, error instanceof Error ? error.message : String(error));
}

/** Called when the service no longer knows the session of a call. */
let sessionEnded: () => void = () => {};
export function onSessionEnd(callback: () => void): void {
  sessionEnded = callback;
}

interface Options {
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** A refused session is an answer here, not the end of one. */
  signingIn?: boolean;
}

async function call<A>(method: string, path: string, { body, signal, signingIn }: Options = {}): Promise<A> {
  const headers: Record<string, string> = { accept: 'application/json', 'x-cladnet-request': '1' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const request: RequestInit = { method, headers, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) request.body = JSON.stringify(body);
  const patience = AbortSignal.timeout(LONGEST_CALL);
  request.signal = signal ? AbortSignal.any([signal, patience]) : patience;
  const response = await fetch(`/api/v1${path}`, request).catch((error: unknown) => {
    if (signal?.aborted) throw error;
    throw new Problem(0, '');
  });
  if (response.status === 401 && !signingIn) sessionEnded();
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return undefined as A;
  return (await response.json()) as A;
}

/** With which status a stream is answered, 0 without an answer; the stream itself is not read. */
export async function streamStatus(path: string): Promise<number> {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(LONGEST_CALL)]);
  try {
    return (await fetch(`/api/v1${path}`, { credentials: 'same-origin', cache: 'no-store', signal })).status;
  } catch {
    return 0;
  } finally {
    stop.abort();
  }
}

async function refusal(response: Response): Promise<Problem> {
  const document = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const text = (name: string) => (typeof document[name] === 'string' ? document[name] : '');
  const detail = text('detail') || text('title') || response.statusText;
  const errors = Array.isArray(document['errors']) ? (document['errors'] as Fault[]) : [];
  return new Problem(response.status, detail, text('field'), text('request_id') || text('requestId'), errors);
}

/** A path whose parts may hold any character. */
function at(parts: TemplateStringsArray, ...values: string[]): string {
  return parts.reduce((path, part, index) => path + encodeURIComponent(values[index - 1] ?? '') + part);
}

/** Every item of a list, page by page. */
async function all<I>(path: string, name: string, signal?: AbortSignal): Promise<I[]> {
  const items: I[] = [];
  const separator = path.includes('?') ? '&' : '?';
  let token = '';
  do {
    const query = `${separator}pageSize=${PAGE}&pageToken=${encodeURIComponent(token)}`;
    const page = await call<Record<string, unknown>>('GET', path + query, { signal });
    items.push(...((page[name] as I[] | undefined) ?? []));
    token = (page['nextPageToken'] as string | undefined) ?? '';
  } while (token !== '');
  return items;
}

/** A number of seconds as proto3 JSON writes a duration. */
const seconds = (count: number) => `${count}s`;

export const session = {
  create: (apiKey: string) => call<T.Session>('POST', '/session', { body: { apiKey }, signingIn: true }),
  get: (signal?: AbortSignal) => call<T.Session>('GET', '/session', { signingIn: true, signal }),
  remove: () => call<void>('DELETE', '/session', { signingIn: true }),
};

export interface NetworkWish {
  networkId?: string;
  name?: string;
  ipv4AddressSpace?: string;
  description?: string;
  ruleType?: string;
  encryptionPolicy?: string;
}

export const networks = {
  list: (signal?: AbortSignal) => all<T.Network>('/networks', 'networks', signal),
  get: (id: string, signal?: AbortSignal) => call<T.Network>('GET', at`/networks/${id}`, { signal }),
  create: (wish: NetworkWish & { expectedHosts: number }) => call<T.Network>('POST', '/networks', { body: wish }),
  update: (id: string, wish: NetworkWish & { expectedGeneration: string }) =>
    call<T.Network>('PATCH', at`/networks/${id}`, { body: wish }),
  remove: (id: string, force: boolean) =>
    call<{ removedPeers: number }>('DELETE', at`/networks/${id}` + (force ? '?force=true' : '')),
  recommend: (hosts: number, avoid: string[], signal?: AbortSignal) =>
    call<T.Recommendation>('POST', '/address-spaces/recommend', { body: { hosts, avoid, limit: 6 }, signal }),
};

export const peers = {
  list: (network: string, signal?: AbortSignal) => all<T.Peer>(at`/networks/${network}/peers`, 'peers', signal),
  update: (network: string, host: string, wish: { labels?: Record<string, string>; clearLabels?: boolean; ipv4Address?: string }) =>
    call<T.Peer>('PATCH', at`/networks/${network}/peers/${host}`, { body: wish }),
  remove: (network: string, host: string) => call<void>('DELETE', at`/networks/${network}/peers/${host}`),
  control: (network: string, command: 'up' | 'down', hostIds: string[]) =>
    call<{ results: T.ControlResult[] }>('POST', at`/networks/${network}/control`, {
      body: { command: command === 'up' ? 'COMMAND_UP' : 'COMMAND_DOWN', hostIds },
    }),
};

export const paths = {
  /** Of every peer, or of those that are named. */
  list: (network: string, sources: string[] = [], signal?: AbortSignal) => {
    const query = sources.map((source) => `sources=${encodeURIComponent(source)}`).join('&');
    return call<T.Paths>('GET', at`/networks/${network}/paths` + (query && `?${query}`), { signal });
  },
  /** As `list`, after the agents have pinged each other. */
  measure: (network: string, sources: string[] = []) =>
    call<T.Paths>('POST', at`/networks/${network}/path-measurements`, { body: { sources } }),
  explain: (network: string, source: string, destination: string, signal?: AbortSignal) =>
    call<T.Explanation>('GET', at`/networks/${network}/paths/${source}/${destination}`, { signal }),
};

export const tokens = {
  list: (network: string, signal?: AbortSignal) =>
    all<T.Token>(at`/tokens?networkId=${network}`, 'tokens', signal),
  create: (networkId: string, uses: number, ttlSeconds: number, labels: Record<string, string>) =>
    call<{ token: T.Token; secret: string }>('POST', '/tokens', {
      body: { networkId, uses, ttl: seconds(ttlSeconds), labels },
    }),
  revoke: (id: string) => call<void>('DELETE', at`/tokens/${id}`),
};

export const connectivity = {
  start: (network: string, hosts: string[], count: number) =>
    call<T.ConnectivityRun>('POST', at`/networks/${network}/connectivity-runs`, { body: { hosts, count } }),
  list: (network: string, signal?: AbortSignal) =>
    call<{ runs: T.ConnectivityRun[] }>('GET', at`/networks/${network}/connectivity-runs`, { signal }),
  get: (network: string, run: string, signal?: AbortSignal) =>
    call<T.ConnectivityRun>('GET', at`/networks/${network}/connectivity-runs/${run}`, { signal }),
};

export const events = {
  page: (network: string, token: string, signal?: AbortSignal) =>
    call<T.EventPage>('GET', at`/events?networkId=${network}&pageSize=100&pageToken=${token}`, { signal }),
};

export interface DeploymentWish {
  action: string;
  hosts: T.DeploymentHostRequest[];
  concurrency?: number;
  acceptNewHostKeys: boolean;
  keepCredentials: boolean;
}

export const deployments = {
  list: (network: string, signal?: AbortSignal) =>
    all<T.Deployment>(at`/deployments?networkId=${network}`, 'deployments', signal),
  /** Those that go on, of every network. */
  running: (signal?: AbortSignal) => all<T.Deployment>('/deployments?running=true', 'deployments', signal),
  get: (id: string, signal?: AbortSignal) => call<T.Deployment>('GET', at`/deployments/${id}`, { signal }),
  /** A stream of it after each change, until it is finished. */
  watchPath: (id: string) => at`/deployments/${id}/watch`,
  create: (network: string, wish: DeploymentWish) =>
    call<T.Deployment>('POST', at`/networks/${network}/deployments`, { body: wish }),
  cancel: (id: string) => call<T.Deployment>('POST', at`/deployments/${id}/cancel`, { body: {} }),
  forgetCredentials: (id: string) => call<T.Deployment>('DELETE', at`/deployments/${id}/credentials`),
  confirm: (id: string, host: string, fingerprint: string) =>
    call<T.Deployment>('POST', at`/deployments/${id}/hosts/${host}/confirm`, { body: { fingerprint } }),
  transcript: (id: string, host: string, signal?: AbortSignal) =>
    call<{ text: string }>('GET', at`/deployments/${id}/hosts/${host}/transcript`, { signal }),
};

export const hostKeys = {
  list: (signal?: AbortSignal) => all<T.HostKey>('/host-keys', 'hostKeys', signal),
  forget: (address: string) => call<void>('DELETE', at`/host-keys/${address}`),
};
