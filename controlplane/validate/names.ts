/** Which names, addresses and ports Istio's objects take. Sources: RFC 1123 section 2.1, Kubernetes' label syntax. */
import { parseCidr, parseIp } from '../../shared/net/address.ts'
import type { Fields } from '../read/fields.ts'
import type { Findings, Problem } from './finding.ts'

const label = '[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?'
const labelPattern = new RegExp(`^${label}$`)
const wildcardLabelPattern = new RegExp(`^(?:\\*|(?:\\*-?)?${label})$`)
const longestLabel = 63
const longestName = 255

const quoted = JSON.stringify

export function isDnsLabel(text: string): boolean {
  return text.length <= longestLabel && labelPattern.test(text)
}

export function dnsLabel(text: string, what: string): Problem | undefined {
  if (isDnsLabel(text)) return undefined
  return {
    message: `${quoted(text)} is no ${what}`,
    remedy: 'use at most 63 letters, digits and dashes, with a letter or digit at both ends'
  }
}

/** A full hostname; the last dot may be written. */
export function hostname(text: string): Problem | undefined {
  return lengthProblem(text) ?? labelsProblem(text, text)
}

/** A hostname whose first label may be `*`, or start with it. */
export function wildcardHostname(text: string): Problem | undefined {
  const problem = lengthProblem(text)
  if (problem !== undefined) return problem
  const cut = text.indexOf('.')
  const first = cut < 0 ? text : text.slice(0, cut)
  if (first.length > longestLabel || !wildcardLabelPattern.test(first)) return badLabel(text, first)
  return cut < 0 ? undefined : labelsProblem(text, text.slice(cut + 1))
}

export function isPartialWildcard(host: string): boolean {
  return host.includes('*') && host.length !== 1 && !host.startsWith('*.')
}

function lengthProblem(text: string): Problem | undefined {
  if (text === '') return { message: 'is empty', remedy: 'name a host' }
  if (text.length <= longestName) return undefined
  return { message: `is longer than ${longestName} characters`, remedy: 'use a shorter hostname' }
}

function labelsProblem(whole: string, text: string): Problem | undefined {
  const labels = text.split('.')
  const last = labels.at(-1) ?? ''
  if (/^[+-]?\d+$/.test(last)) {
    return { message: `${quoted(whole)} ends in a number`, remedy: 'end a hostname in a name' }
  }
  const bad = labels.find((each, index) => !(each === '' && index === labels.length - 1) && !isDnsLabel(each))
  return bad === undefined ? undefined : badLabel(whole, bad)
}

function badLabel(whole: string, bad: string): Problem {
  return {
    message: `${quoted(whole)} is no hostname: ${quoted(bad)} is no part of one`,
    remedy: 'use parts of at most 63 letters, digits and dashes; only the first may be or start with *'
  }
}

export function isIp(text: string): boolean {
  return parseIp(text) !== undefined
}

export function ipAddress(text: string): Problem | undefined {
  if (isIp(text)) return undefined
  return { message: `${quoted(text)} is no IP address`, remedy: 'write it as 192.0.2.1 or 2001:db8::1' }
}

/** An address, or a block such as `192.0.2.0/24`. */
export function ipBlock(text: string): Problem | undefined {
  if (parseCidr(text) !== undefined) return undefined
  return {
    message: `${quoted(text)} is no IP address or block`,
    remedy: 'write it as 192.0.2.1 or 192.0.2.0/24'
  }
}

export function isPort(number: number): boolean {
  return Number.isInteger(number) && number >= 1 && number <= 65535
}

export function portNumber(number: number): Problem | undefined {
  if (isPort(number)) return undefined
  return { message: `${number} is no port`, remedy: 'use a number from 1 to 65535' }
}

export const unixPrefix = 'unix://'

/** What follows {@link unixPrefix}. */
export function unixPath(path: string): Problem | undefined {
  if (path.startsWith('@') || (path.startsWith('/') && !path.endsWith('/'))) return undefined
  return { message: `${quoted(path)} is no path of a socket`, remedy: 'write an absolute path, or @name' }
}

const nameInLabel = '(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'
const labelKey = new RegExp(`^(${label}(?:\\.${label})*/)?(${nameInLabel})$`)
const labelValue = new RegExp(`^(?:${nameInLabel})?$`)

/** Labels as Kubernetes takes them. */
export function checkLabels(holder: Fields, name: string, findings: Findings): void {
  for (const [key, value] of Object.entries(holder.labels(name))) {
    const [, prefix = '', rest = ''] = labelKey.exec(key) ?? []
    if (rest === '' || prefix.length > 254 || rest.length > longestLabel) {
      findings.error(
        holder.pathOf(name),
        `${quoted(key)} is no label key`,
        'use [dns.name/]name of letters, digits, dashes, dots and underscores'
      )
    }
    if (!labelValue.test(value)) {
      findings.error(
        `${holder.pathOf(name)}.${key}`,
        `${quoted(value)} is no label value`,
        'use letters, digits, dashes, dots and underscores, with a letter or digit at both ends'
      )
    }
  }
}
