/** AuthorizationPolicy. Source: Istio's published definition (security.istio.io). */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { ipBlock } from './names.ts'
import { checkSelection } from './selection.ts'

const actions = ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'] as const
type Action = (typeof actions)[number]

const addresses = ['ipBlocks', 'notIpBlocks', 'remoteIpBlocks', 'notRemoteIpBlocks']
const peers = ['principals', 'notPrincipals', 'namespaces', 'notNamespaces']
const accounts = ['serviceAccounts', 'notServiceAccounts']
const trustDomains = ['trustDomains', 'notTrustDomains']
const requesters = ['requestPrincipals', 'notRequestPrincipals']
/** What a plain TCP connection says about its source. */
const ofConnections = [...addresses, ...peers, ...accounts]
const sources = [...ofConnections, ...trustDomains, ...requesters]
const ports = ['ports', 'notPorts']
const paths = ['paths', 'notPaths']
const operations = [...ports, ...paths, 'hosts', 'notHosts', 'methods', 'notMethods']

export function validateAuthorizationPolicy(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  const action = spec.oneOf('action', actions, 'ALLOW')
  const rules = spec.list('rules')
  if (rules.length === 0 && (action === 'CUSTOM' || action === 'DENY')) {
    findings.error(
      spec.pathOf('rules'),
      `a policy with action ${action} and without rules does nothing`,
      'add the empty rule {} for every request'
    )
  }
  checkProvider(spec, action, rules.length > 0, findings)
  for (const rule of rules) checkRule(rule, action, findings)
}

function checkProvider(spec: Fields, action: Action, hasRules: boolean, findings: Findings): void {
  const field = spec.pathOf('provider')
  if (action !== 'CUSTOM') {
    if (spec.has('provider')) findings.error(field, 'is only for action CUSTOM', 'leave it out')
  } else if (hasRules && spec.at('provider').text('name') === '') {
    findings.error(`${field}.name`, 'is missing', 'name an extension provider of the mesh configuration')
  }
}

function checkRule(rule: Fields, action: Action, findings: Findings): void {
  let [anyFrom, anyTo, tcpFrom, tcpTo] = [false, false, false, false]
  for (const from of rule.list('from')) {
    if (!from.has('source')) {
      findings.error(from.pathOf('source'), 'is missing', 'say which sources, or leave the entry out')
      continue
    }
    const source = from.at('source')
    checkSource(source, action, findings)
    anyFrom = true
    tcpFrom ||= ofConnections.some(name => source.texts(name).length > 0)
  }
  for (const to of rule.list('to')) {
    if (!to.has('operation')) {
      findings.error(to.pathOf('operation'), 'is missing', 'say which operations, or leave the entry out')
      continue
    }
    const operation = to.at('operation')
    checkOperation(operation, findings)
    anyTo = true
    tcpTo ||= ports.some(name => operation.texts(name).length > 0)
  }
  for (const condition of rule.list('when')) checkCondition(condition, action, findings)
  if (action === 'DENY' && ((anyFrom && !anyTo && !tcpFrom) || (anyTo && !tcpTo))) {
    findings.warn(
      rule.path,
      'a DENY rule with HTTP attributes only denies all traffic of TCP ports in its scope',
      'name the ports that it is for'
    )
  }
}

function checkSource(source: Fields, action: Action, findings: Findings): void {
  const set = sources.filter(name => source.texts(name).length > 0)
  if (set.length === 0) {
    findings.error(source.path, 'is empty', 'name a source, or leave the entry out for every source')
  }
  if (set.some(name => peers.includes(name)) && set.some(name => accounts.includes(name))) {
    findings.error(
      source.path,
      'serviceAccounts stand beside namespaces or principals',
      'use one of the two ways to name a peer'
    )
  }
  if (action === 'CUSTOM') {
    for (const name of set) if (!addresses.includes(name)) notWithCustom(source.pathOf(name), findings)
  }
  for (const name of set) {
    if (accounts.includes(name)) checkAccounts(source, name, findings)
    else checkNotEmpty(source, name, findings)
  }
  for (const name of addresses) {
    for (const [index, text] of source.texts(name).entries()) {
      findings.check(`${source.pathOf(name)}[${index}]`, ipBlock(text))
    }
  }
  for (const name of trustDomains) {
    for (const [index, text] of source.texts(name).entries()) {
      checkWildcard(`${source.pathOf(name)}[${index}]`, text, findings)
      if (text.includes('/')) {
        findings.error(`${source.pathOf(name)}[${index}]`, 'holds a "/"', 'write the trust domain alone')
      }
    }
  }
}

function checkOperation(operation: Fields, findings: Findings): void {
  const set = operations.filter(name => operation.texts(name).length > 0)
  if (set.length === 0) {
    findings.error(operation.path, 'is empty', 'name an operation, or leave the entry out for every one')
  }
  for (const name of set) checkNotEmpty(operation, name, findings)
  for (const name of ports) checkPorts(operation, name, findings)
  for (const name of paths) {
    for (const [index, path] of operation.texts(name).entries()) {
      checkPath(`${operation.pathOf(name)}[${index}]`, path, findings)
    }
  }
}

function checkNotEmpty(holder: Fields, name: string, findings: Findings): void {
  for (const [index, text] of holder.texts(name).entries()) {
    if (text === '')
      findings.error(`${holder.pathOf(name)}[${index}]`, 'is empty', 'write a value or leave it out')
  }
}

function checkPorts(holder: Fields, name: string, findings: Findings): void {
  for (const [index, text] of holder.texts(name).entries()) {
    if (/^\d+$/.test(text) && Number(text) <= 65535) continue
    findings.error(
      `${holder.pathOf(name)}[${index}]`,
      `${JSON.stringify(text)} is no port`,
      'write one number from 0 to 65535; ranges are not supported'
    )
  }
}

const mostAccounts = 16
const longestAccount = 320

function checkAccounts(holder: Fields, name: string, findings: Findings): void {
  const names = holder.texts(name)
  if (names.length > mostAccounts) {
    findings.error(holder.pathOf(name), `has more than ${mostAccounts} entries`, 'split the rule')
  }
  for (const [index, text] of names.entries()) {
    if (/^(?:[^/*]+\/)?[^/*]+$/.test(text) && text.length <= longestAccount) continue
    findings.error(
      `${holder.pathOf(name)}[${index}]`,
      `${JSON.stringify(text)} is no service account`,
      'write it as account or namespace/account, without wildcards'
    )
  }
}

function checkWildcard(field: string, text: string, findings: Findings): void {
  if (text === '*' || !/^.+\*.+$|\*.*\*/s.test(text)) return
  findings.error(field, `${JSON.stringify(text)} has a wildcard in its middle`, 'put one * first or last')
}

/** `{*}` is one segment, `{**}` all further ones. */
function checkPath(field: string, path: string, findings: Findings): void {
  const templated = path.includes('{*}') || path.includes('{**}')
  let ended = false
  for (const segment of path.replaceAll(/^\/+|\/+$/g, '').split('/')) {
    if (segment === '{*}' || segment === '{**}') {
      if (ended) findings.error(field, `{**} is not the last template of ${path}`, 'put {**} last')
      ended ||= segment === '{**}'
    } else if (/[{}]/.test(segment)) {
      findings.error(field, `${JSON.stringify(path)} holds braces`, 'use {*} or {**} as whole segments')
    } else if (templated && !/^[\w\-.~%!$&'()+,;:@=]+$/.test(segment)) {
      findings.error(
        field,
        `${JSON.stringify(segment)} is no segment of a path`,
        'escape what a path cannot hold'
      )
    } else continue
    if (/[{}]/.test(segment) && segment !== '{*}' && segment !== '{**}') return
  }
}

const withKey = ['request.headers', 'request.auth.claims', 'experimental.envoy.filters.']
const plainKeys = new Set([
  'source.ip',
  'remote.ip',
  'source.namespace',
  'source.serviceAccount',
  'source.principal',
  'source.trustDomain',
  'request.auth.principal',
  'request.auth.audiences',
  'request.auth.presenter',
  'destination.ip',
  'destination.port',
  'connection.sni'
])
const notWithCustomKeys = /^(?:source\.(?:namespace|serviceAccount|trustDomain|principal)$|request\.auth\.)/

function checkCondition(condition: Fields, action: Action, findings: Findings): void {
  const key = condition.text('key')
  const field = condition.pathOf('key')
  if (key === '') {
    findings.error(field, 'is missing', 'name an attribute such as source.ip')
    return
  }
  if (action === 'CUSTOM' && notWithCustomKeys.test(key)) notWithCustom(field, findings)
  const lists = ['values', 'notValues'].filter(name => condition.texts(name).length > 0)
  if (lists.length === 0) {
    findings.error(condition.path, `${key} has no values`, 'give values or notValues')
    return
  }
  for (const name of lists) checkNotEmpty(condition, name, findings)
  if (withKey.some(prefix => key.startsWith(prefix))) {
    if (!/^[^[]+\[.+\]$/s.test(key))
      findings.error(field, `${key} names no key`, 'write it as request.headers[name]')
  } else if (!plainKeys.has(key)) {
    findings.error(
      field,
      `${key} is no attribute`,
      'use one of the conditions that Istio documents, such as source.ip or request.headers[name]'
    )
  }
  for (const name of lists) checkValues(condition, name, key, findings)
}

function checkValues(condition: Fields, name: string, key: string, findings: Findings): void {
  if (key === 'destination.port') checkPorts(condition, name, findings)
  if (key === 'source.serviceAccount') checkAccounts(condition, name, findings)
  for (const [index, text] of condition.texts(name).entries()) {
    const field = `${condition.pathOf(name)}[${index}]`
    if (key.endsWith('.ip')) findings.check(field, ipBlock(text))
    if (key === 'source.trustDomain') checkWildcard(field, text, findings)
  }
}

function notWithCustom(field: string, findings: Findings): void {
  findings.error(field, 'is not supported with action CUSTOM', 'leave it out, or use another action')
}
