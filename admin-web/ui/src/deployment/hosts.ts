/** The machines of a deployment as they are typed in, and how that becomes a request. Pure. */

import { labelsOf } from '../text';
import type { DeploymentHostRequest } from '../types';

export interface Draft {
  /** Tells rows apart while they are edited. */
  id: number;
  name: string;
  address: string;
  port: string;
  user: string;
  bastion: string;
  hostKey: string;
  overlayAddress: string;
  labels: string;
  /** What is known of its cloud, as `provider=aws, region=…`. */
  location: string;
  /** A key of its own; empty: the one for all. */
  privateKey: string;
}

let nextId = 0;

export function draft(known: Partial<Draft> = {}): Draft {
  const empty = { name: '', address: '', port: '', user: '', bastion: '', hostKey: '', overlayAddress: '', labels: '', location: '', privateKey: '' };
  return { ...empty, ...known, id: nextId++ };
}

export function isBlank({ name, address }: Draft): boolean {
  return name.trim() === '' && address.trim() === '';
}

/**
 * One machine per line: `NAME [USER@]ADDRESS[:PORT] [bastion=NAME] [LABEL=VALUE …]`; a lone address is its own name.
 * Empty lines and those that begin with `#` are left out.
 */
export function draftsOf(text: string): Draft[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map(draftOfLine);
}

function draftOfLine(line: string): Draft {
  const words = line.split(/[\s,]+/u).filter((word) => word !== '');
  const settings = words.filter((word) => word.includes('='));
  const [first = '', second = first] = words.filter((word) => !word.includes('='));
  const bastion = settings.find((setting) => setting.startsWith('bastion='))?.slice('bastion='.length) ?? '';
  const labels = settings.filter((setting) => !setting.startsWith('bastion=')).join(', ');
  const at = second.lastIndexOf('@');
  const user = at < 0 ? '' : second.slice(0, at);
  const { address, port } = placeOf(second.slice(at + 1));
  return draft({ name: nameOf(first === second ? address : first), address, port, user, bastion, labels });
}

/** `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT` or a bare IPv6 address. */
function placeOf(text: string): { address: string; port: string } {
  const bracketed = /^\[(?<address>[^\]]+)\](?::(?<port>\d+))?$/u.exec(text)?.groups;
  if (bracketed) return { address: bracketed['address'] ?? '', port: bracketed['port'] ?? '' };
  const isIpv6 = text.indexOf(':') !== text.lastIndexOf(':');
  const [address = '', port = ''] = isIpv6 ? [text] : text.split(':');
  return { address, port };
}

/** An address as a name of a machine, which has no dots or colons. */
function nameOf(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9-]+/gu, '-').replace(/^-+|-+$/gu, '');
}

/** A field whose text cannot be sent as it stands. */
export type Misspelt = 'port' | 'labels' | 'location';

export function misspelt({ port, labels, location }: Draft): Misspelt[] {
  const faults: Misspelt[] = [];
  const isPort = /^\d{1,5}$/u.test(port.trim()) && Number(port) >= 1 && Number(port) <= 65_535;
  if (port.trim() !== '' && !isPort) faults.push('port');
  if (!labelsOf(labels)) faults.push('labels');
  if (!labelsOf(location)) faults.push('location');
  return faults;
}

/** What all machines have unless they say otherwise. */
export interface Defaults {
  user: string;
  privateKey: string;
}

export function requestOf(drafts: readonly Draft[], defaults: Defaults): DeploymentHostRequest[] {
  return drafts.map((row) => {
    const request: DeploymentHostRequest = {
      name: row.name.trim(),
      address: row.address.trim(),
      user: row.user.trim() || defaults.user.trim(),
      privateKey: row.privateKey || defaults.privateKey,
    };
    if (row.port.trim()) request.port = Number(row.port);
    if (row.bastion.trim()) request.bastion = row.bastion.trim();
    if (row.hostKey.trim()) request.hostKey = row.hostKey.trim();
    if (row.overlayAddress.trim()) request.overlayAddress = row.overlayAddress.trim();
    if (row.labels.trim()) request.labels = labelsOf(row.labels) ?? {};
    if (row.location.trim()) request.location = labelsOf(row.location) ?? {};
    return request;
  });
}
