/** The command with which a machine joins. */

/** Where the admin web stands alone, and where the service it speaks for listens. */
const ALONE = '8054';
const SERVICE = '8053';

/** Where agents most likely reach the service, seen from where the page came from. */
export function serviceOf({ hostname, port }: { hostname: string; port: string }): string {
  const service = port === ALONE ? SERVICE : port;
  return `https://${hostname}${service && `:${service}`}`;
}

/** `hidden` keeps the token out of the list of processes. */
export function commandOf(service: string, secret: string, hidden: boolean): string {
  return hidden
    ? `echo '${secret}' | cladnet-agent join ${service} --token-file -`
    : `cladnet-agent join ${service} ${secret}`;
}
