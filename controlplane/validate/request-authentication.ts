/** RequestAuthentication. Source: Istio's published definition; keys: RFC 7517. */
import type { Fields } from '../read/fields.ts'
import { checkDuration } from './duration.ts'
import type { Findings } from './finding.ts'
import { checkSelection } from './selection.ts'

export function validateRequestAuthentication(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  for (const rule of spec.list('jwtRules')) checkRule(rule, findings)
}

function checkRule(rule: Fields, findings: Findings): void {
  const [issuer, uri, jwks] = [rule.text('issuer'), rule.text('jwksUri'), rule.text('jwks')]
  if (issuer === '' && uri === '') {
    findings.error(rule.pathOf('issuer'), 'neither issuer nor jwksUri is set', 'set one of them')
  }
  if (uri !== '' && !isHttpUri(uri)) {
    findings.error(
      rule.pathOf('jwksUri'),
      `${JSON.stringify(uri)} is no address of keys`,
      'start it with https://'
    )
  }
  if (jwks !== '') checkKeys(rule, jwks, findings)
  for (const name of ['audiences', 'fromParams', 'fromCookies']) {
    for (const [index, text] of rule.texts(name).entries()) {
      if (text === '')
        findings.error(`${rule.pathOf(name)}[${index}]`, 'is empty', 'write a value or leave it out')
    }
  }
  for (const header of rule.list('fromHeaders')) {
    if (header.text('name') === '') findings.error(header.pathOf('name'), 'is missing', 'name the header')
  }
  for (const output of rule.list('outputClaimToHeaders')) {
    const [header, claim] = [output.text('header'), output.text('claim')]
    if (header === '' || claim === '') {
      findings.error(output.path, 'header or claim is missing', 'name both')
    } else if (!/^[-\w]+$/.test(header)) {
      findings.error(
        output.pathOf('header'),
        `${JSON.stringify(header)} is no header name`,
        'use letters, digits, - and _'
      )
    }
  }
  checkDuration(rule, 'timeout', findings)
}

function isHttpUri(text: string): boolean {
  if (!/^https?:/i.test(text)) return false
  const [, port = ''] = /^[^/?#]*\/\/[^/?#]*:([^/?#\]]*)(?:[/?#]|$)/.exec(text) ?? []
  return /^\d*$/.test(port) && !/[\s"<>\\^`{|}]/.test(text.split(/[/?#]/)[2] ?? '')
}

/** What a key of each type holds beside its type. */
const parts: Readonly<Record<string, readonly string[]>> = {
  RSA: ['n', 'e'],
  EC: ['crv', 'x', 'y'],
  OKP: ['crv', 'x'],
  oct: ['k']
}

function checkKeys(rule: Fields, text: string, findings: Findings): void {
  const field = rule.pathOf('jwks')
  const keys = keysOf(text)
  const remedy = 'write a JSON Web Key Set: {"keys": […]}'
  if (keys === undefined) {
    findings.error(field, 'is no key set', remedy)
    return
  }
  for (const [index, key] of keys.entries()) {
    const needed = parts[String(key['kty'])]
    const missing = needed?.find(name => typeof key[name] !== 'string' || key[name] === '')
    if (needed === undefined) findings.error(field, `key ${index} has no known type (kty)`, remedy)
    else if (missing !== undefined) findings.error(field, `key ${index} lacks ${missing}`, remedy)
    else if (key['kty'] === 'oct' || key['d'] !== undefined) {
      findings.warn(field, `key ${index} holds private key material`, 'give the public key only')
    }
  }
}

function keysOf(text: string): readonly Record<string, unknown>[] | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined // the author is told that it is no key set
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const keys: unknown = 'keys' in value ? value.keys : [value]
  const isKey = (key: unknown): key is Record<string, unknown> => typeof key === 'object' && key !== null
  return Array.isArray(keys) && keys.every(isKey) ? keys : undefined
}
