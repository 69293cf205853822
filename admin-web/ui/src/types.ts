/**
 * The messages of `cladnet.v1` as REST writes them: proto3 JSON, 64-bit integers as strings, every field present but messages
 * (instants too) that are not set.
 */

/** An instant as RFC 3339, where there is one. */
export type Instant = string | null | undefined;

export interface Session {
  keyId: string;
  name: string;
  role: string;
  actions: string[];
  expiresAt: string;
}

export interface Network {
  networkId: string;
  name: string;
  ipv4AddressSpace: string;
  description: string;
  ruleType: string;
  encryptionPolicy: string;
  generation: string;
  createdAt: Instant;
  peerCount: number;
}

export interface AddressSpace {
  cidr: string;
  capacity: number;
  reason: string;
  softConflicts: string[];
}

export interface Recommendation {
  addressSpaces: AddressSpace[];
  message: string;
}

export interface LocationField {
  value: string;
  source: string;
}

export const LOCATION_FIELDS = ['provider', 'account', 'region', 'zone', 'vpc', 'subnet', 'instance'] as const;
export type LocationName = (typeof LOCATION_FIELDS)[number];
export type CloudLocation = Partial<Record<LocationName, LocationField | null>>;

export interface Endpoint {
  address: string;
  scope: string;
  source: string;
}

export interface Peer {
  networkId: string;
  hostId: string;
  hostName: string;
  ipv4Address: string;
  publicKey: string;
  state: string;
  stateReason: string;
  desiredState: string;
  online: boolean;
  endpoints: Endpoint[];
  location: CloudLocation | null;
  labels: Record<string, string>;
  plain: boolean;
  joinedAt: Instant;
  agentVersion: string;
}

export interface ControlResult {
  hostId: string;
  outcome: string;
  detail: string;
}

export interface Path {
  source: string;
  destination: string;
  scope: string;
  endpoint: string;
  rttUs: number;
  lastHandshakeAt: Instant;
  sentBytes: string;
  receivedBytes: string;
  /** Of a GB from source to destination; empty if it is not known. */
  usdPerGb: string;
  detail: string;
}

export interface Paths {
  paths: Path[];
  unreachable: string[];
}

export interface PathCandidate {
  endpoint: string;
  scope: string;
  state: string;
  rank: number;
  rttUs: number;
  reason: string;
  price?: Quote;
  returnPrice?: Quote;
}

/** What a GB costs; the amount is absent if it is not known. */
export interface Quote {
  perGbNanoUsd?: string;
}

export interface Explanation {
  source: string;
  destination: string;
  ruleType: string;
  /** Path rules that override what the network says. */
  ruleIds: string[];
  encryption: string;
  candidates: PathCandidate[];
  summary: string;
}

export interface Token {
  tokenId: string;
  networkId: string;
  usesLeft: number;
  expiresAt: Instant;
  labels: Record<string, string>;
  createdAt: Instant;
  state: string;
  createdBy: string;
}

export interface PairResult {
  source: string;
  destination: string;
  sourceName: string;
  destinationName: string;
  sent: number;
  received: number;
  lossPercent: number;
  minUs: number;
  avgUs: number;
  maxUs: number;
  stddevUs: number;
  p50Us: number;
  p90Us: number;
  p99Us: number;
  error: string;
}

export interface ConnectivityRun {
  runId: string;
  networkId: string;
  startedAt: Instant;
  deadlineAt: Instant;
  asked: number;
  answered: number;
  done: boolean;
  results: PairResult[];
  missing: ControlResult[];
  lossPercent: number;
  p50Us: number;
  /** Pairs that are not among the results, for lack of room; 0 in lists. */
  leftOut: number;
}

export interface Event {
  eventId: string;
  at: Instant;
  kind: string;
  networkId: string;
  hostId: string;
  actor: string;
  message: string;
}

export interface EventPage {
  events: Event[];
  nextPageToken: string;
}

export interface DeploymentHost {
  name: string;
  address: string;
  port: number;
  user: string;
  bastion: string;
  state: string;
  /** A word of a closed list; empty unless it failed. */
  failure: string;
  detail: string;
  failedDuring: string;
  offeredFingerprint: string;
  hostId: string;
  agentVersion: string;
  system: string;
  startedAt: Instant;
  finishedAt: Instant;
}

export interface Deployment {
  deploymentId: string;
  networkId: string;
  action: string;
  createdAt: Instant;
  createdBy: string;
  cancelledAt: Instant;
  concurrency: number;
  acceptNewHostKeys: boolean;
  keepCredentials: boolean;
  /** running or finished. */
  state: string;
  done: number;
  failed: number;
  total: number;
  /** Empty in lists. */
  hosts: DeploymentHost[];
  /** Whether a provisioner works on it now. */
  claimed: boolean;
  /** Machines that wait for a person: each shows a host key that nobody has vouched for. */
  unconfirmed: number;
}

export interface DeploymentHostRequest {
  name: string;
  address: string;
  port?: number;
  user: string;
  privateKey: string;
  hostKey?: string;
  bastion?: string;
  labels?: Record<string, string>;
  overlayAddress?: string;
  location?: Record<string, string>;
}

export interface HostKey {
  address: string;
  fingerprint: string;
  algorithm: string;
  pinnedAt: Instant;
  pinnedBy: string;
}
