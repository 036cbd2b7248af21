/** Hostnames as listeners and routes write them, and hosts as requests name them. Source: Gateway API v1, Hostname. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'

const label = '[a-z0-9](?:[-a-z0-9]*[a-z0-9])?'
const form = new RegExp(`^(?:\\*\\.)?${label}(?:\\.${label})*$`)
const longest = 253

/** `a.b`, `*.b`, or '' for any host; in lower case. What is wrong with it is told to the problems of `fields`. */
export function hostnameIn(fields: Fields, text: string, path: string): string {
  const hostname = text.toLowerCase()
  if (hostname !== '' && (hostname.length > longest || !form.test(hostname)))
    fields.problems.add(path, `${JSON.stringify(text)} is no hostname, with or without "*." before it`)
  return hostname
}

/** Of `host:port`: in lower case, without the port and the dot of the root. */
export function hostOf(authority: string): string {
  const host = authority.replace(/:\d*$/, '').toLowerCase()
  return host.endsWith('.') ? host.slice(0, -1) : host
}
