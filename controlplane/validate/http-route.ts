/** One `http` route of a VirtualService. Source: Istio's published definition. */
import { STATUS_CODES } from 'node:http'
import type { Fields } from '../read/fields.ts'
import { checkDestination, checkRoute } from './destination.ts'
import { checkDuration, durationOf } from './duration.ts'
import type { Findings } from './finding.ts'
import { checkAuthority, checkHeaderOperations, headerName } from './header.ts'
import { checkHttpMatch, checkStringMatch } from './http-match.ts'
import { portNumber } from './names.ts'
import { regularExpression } from './regular-expression.ts'

/** `delegated`: the VirtualService has no hosts and is used by another. */
export function checkHttpRoute(route: Fields, findings: Findings, delegated: boolean): void {
  checkConflicts(route, findings, delegated)
  for (const match of route.list('match')) checkHttpMatch(match, findings)
  checkHeaderOperations(route, findings)
  if (route.has('corsPolicy')) checkCors(route.at('corsPolicy'), findings)
  if (route.has('fault')) checkFault(route.at('fault'), findings)
  checkMirrors(route, findings)
  if (route.has('redirect')) checkRedirect(route, findings)
  if (route.has('directResponse')) checkDirectResponse(route.at('directResponse'), findings)
  if (route.has('retries')) checkRetries(route.at('retries'), findings)
  if (route.has('rewrite')) checkRewrite(route.at('rewrite'), findings)
  checkAuthority(route, findings)
  checkRoute(route, findings)
  for (const destination of route.list('route')) checkHeaderOperations(destination, findings)
  checkDuration(route, 'timeout', findings)
}

function checkConflicts(route: Fields, findings: Findings, delegated: boolean): void {
  const hasRoute = route.list('route').length > 0
  if (route.has('delegate')) {
    const field = route.pathOf('delegate')
    if (delegated) findings.error(field, 'a delegate cannot delegate', 'route here')
    else {
      for (const other of ['redirect', ...(hasRoute ? ['route'] : [])]) {
        if (route.has(other))
          findings.error(route.pathOf(other), 'stands beside delegate', 'keep one of them')
      }
      return
    }
  }
  const answer = ['redirect', 'directResponse'].find(name => route.has(name))
  if (answer !== undefined) {
    const others = [...(hasRoute ? ['route'] : []), 'fault', 'rewrite', 'redirect', 'directResponse']
    for (const other of others) {
      if (other !== answer && route.has(other)) {
        findings.error(route.pathOf(other), `stands beside ${answer}`, 'keep one of them')
      }
    }
  } else if (!hasRoute) {
    findings.error(route.path, 'leads nowhere', 'add route, redirect or directResponse')
  }
  if (route.has('mirror') && route.list('mirrors').length > 0) {
    findings.error(route.pathOf('mirrors'), 'stand beside mirror', 'keep one of them')
  }
}

const corsMethods = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  '*'
])

function checkCors(policy: Fields, findings: Findings): void {
  for (const origin of policy.list('allowOrigins')) {
    if (['exact', 'prefix', 'regex'].every(way => origin.text(way) === '')) {
      findings.error(origin.path, 'matches no origin', 'set exact, prefix or regex')
    }
    checkStringMatch(origin, findings, { emptyPrefix: true })
  }
  for (const [index, method] of policy.texts('allowMethods').entries()) {
    if (corsMethods.has(method)) continue
    findings.error(
      `${policy.pathOf('allowMethods')}[${index}]`,
      `${method} is no method`,
      'use GET, POST … or *'
    )
  }
  for (const list of ['allowHeaders', 'exposeHeaders']) {
    for (const [index, name] of policy.texts(list).entries()) {
      findings.check(`${policy.pathOf(list)}[${index}]`, headerName(name))
    }
  }
  checkDuration(policy, 'maxAge', findings)
  if ((durationOf(policy.text('maxAge')) ?? 0) % 1e9 > 0) {
    findings.error(policy.pathOf('maxAge'), 'is finer than seconds', 'use whole seconds')
  }
}

function checkFault(fault: Fields, findings: Findings): void {
  const [abort, delay] = [fault.at('abort'), fault.at('delay')]
  if (!fault.has('abort') && !fault.has('delay')) {
    findings.error(fault.path, 'injects nothing', 'set abort or delay')
  }
  for (const each of [abort, delay]) checkShare(each, findings)
  if (fault.has('abort')) checkAbort(abort, findings)
  checkDuration(delay, 'fixedDelay', findings)
  if (delay.has('exponentialDelay')) {
    findings.error(delay.pathOf('exponentialDelay'), 'is not supported', 'use fixedDelay')
  }
}

/** `percentage.value`: none at all, or at least a ten-thousandth of a percent. */
function checkShare(holder: Fields, findings: Findings): void {
  const percentage = holder.at('percentage')
  const value = percentage.number('value')
  if (value === 0 || (value >= 0.0001 && value <= 100)) return
  findings.error(percentage.pathOf('value'), `${value} is no percentage`, 'use 0, or 0.0001 to 100')
}

/** Names of gRPC's status codes. */
const grpcStatuses =
  /^(?:OK|CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED)$/

function checkAbort(abort: Fields, findings: Findings): void {
  if (abort.has('http2Error'))
    findings.error(abort.pathOf('http2Error'), 'is not supported', 'use httpStatus')
  else if (abort.has('grpcStatus')) {
    if (grpcStatuses.test(abort.text('grpcStatus'))) return
    findings.error(abort.pathOf('grpcStatus'), 'is no status of gRPC', 'use a name such as NOT_FOUND')
  } else if (abort.has('httpStatus')) checkStatus(abort, 'httpStatus', findings)
  else findings.warn(abort.path, 'says no error', 'set httpStatus or grpcStatus')
}

function checkStatus(holder: Fields, name: string, findings: Findings): void {
  const status = holder.number(name)
  if (status >= 200 && status <= 600) return
  findings.error(holder.pathOf(name), `${status} is no status`, 'use 200 to 599')
}

function checkMirrors(route: Fields, findings: Findings): void {
  if (route.has('mirrorPercent')) {
    if (route.number('mirrorPercent') > 100) percentage(route, 'mirrorPercent', findings)
    findings.warn(route.pathOf('mirrorPercent'), 'is deprecated', 'use mirrorPercentage')
  }
  checkMirrorShare(route, 'mirrorPercentage', findings)
  if (route.has('mirror')) checkDestination(route.at('mirror'), findings)
  for (const mirror of route.list('mirrors')) {
    if (!mirror.has('destination')) findings.error(mirror.pathOf('destination'), 'is missing', 'name a host')
    else {
      checkDestination(mirror.at('destination'), findings)
      checkMirrorShare(mirror, 'percentage', findings)
    }
  }
}

function checkMirrorShare(holder: Fields, name: string, findings: Findings): void {
  const share = holder.at(name)
  const value = share.number('value')
  if (value < 0 || value > 100) percentage(share, 'value', findings)
}

function percentage(holder: Fields, name: string, findings: Findings): void {
  findings.error(holder.pathOf(name), `${holder.number(name)} is no percentage`, 'use 0 to 100')
}

function checkRedirect(route: Fields, findings: Findings): void {
  const redirect = route.at('redirect')
  const [uri, prefix, scheme] = [
    redirect.text('uri'),
    redirect.text('prefixRewrite'),
    redirect.text('scheme')
  ]
  if (uri !== '' && prefix !== '') {
    findings.error(redirect.pathOf('prefixRewrite'), 'stands beside uri', 'keep one of them')
  }
  if (
    prefix !== '' &&
    route.list('match').some(match => match.has('uri') && !match.at('uri').has('prefix'))
  ) {
    findings.error(redirect.pathOf('prefixRewrite'), 'needs matches by prefix', 'match uri by prefix')
  }
  const hasPort = redirect.has('port') || redirect.has('derivePort')
  if (uri === '' && prefix === '' && scheme === '' && redirect.text('authority') === '' && !hasPort) {
    findings.error(redirect.path, 'changes nothing', 'set uri, authority, scheme or port')
  }
  const code = redirect.number('redirectCode')
  if (code !== 0 && (code < 300 || code > 399)) {
    findings.error(redirect.pathOf('redirectCode'), `${code} is no redirect`, 'use 301, 302, 303, 307 or 308')
  }
  if (!['', 'http', 'https'].includes(scheme)) {
    findings.error(redirect.pathOf('scheme'), `${JSON.stringify(scheme)} is no scheme`, 'use http or https')
  }
  const port = redirect.number('port')
  if (port > 0) findings.check(redirect.pathOf('port'), portNumber(port))
}

const largeBody = 100 << 10
const largestBody = 1 << 20

function checkDirectResponse(response: Fields, findings: Findings): void {
  const body = response.at('body')
  const size = body.has('bytes')
    ? Buffer.from(body.text('bytes'), 'base64').length
    : Buffer.byteLength(body.text('string'))
  const remedy = 'serve large answers by an application'
  if (size > largestBody) findings.error(body.path, 'is larger than 1 MiB', remedy)
  else if (size > largeBody) findings.warn(body.path, 'is larger than 100 KiB', remedy)
  checkStatus(response, 'status', findings)
}

const retryConditions = new Set([
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'retriable-headers',
  'envoy-ratelimited',
  'http3-post-connect-failure',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable'
])

function checkRetries(retries: Fields, findings: Findings): void {
  const attempts = retries.number('attempts')
  const conditions = retries.text('retryOn')
  if (attempts < 0) findings.error(retries.pathOf('attempts'), 'is negative', 'use 0 or more')
  const configured = retries.has('perTryTimeout') || conditions !== '' || retries.has('retryRemoteLocalities')
  if (attempts === 0 && configured) {
    findings.error(retries.pathOf('attempts'), 'is 0, so nothing else here has an effect', 'set attempts')
  }
  checkDuration(retries, 'perTryTimeout', findings)
  checkDuration(retries, 'backoff', findings)
  for (const condition of conditions === '' ? [] : conditions.split(',')) {
    if (retryConditions.has(condition) || isHttpStatus(condition)) continue
    findings.error(
      retries.pathOf('retryOn'),
      `${JSON.stringify(condition)} is no condition`,
      "use Envoy's conditions or status codes, with commas and without spaces"
    )
  }
}

function isHttpStatus(text: string): boolean {
  const status = /^[+-]?\d+$/.test(text) ? Number(text) : 0
  return STATUS_CODES[status] !== undefined && status !== 509
}

function checkRewrite(rewrite: Fields, findings: Findings): void {
  const uri = rewrite.text('uri')
  if (uri !== '' && rewrite.has('uriRegexRewrite')) {
    findings.error(rewrite.pathOf('uriRegexRewrite'), 'stands beside uri', 'keep one of them')
  }
  if (uri === '' && !rewrite.has('uriRegexRewrite') && rewrite.text('authority') === '') {
    findings.error(rewrite.path, 'changes nothing', 'set uri, uriRegexRewrite or authority')
  }
  if (!rewrite.has('uriRegexRewrite')) return
  const regex = rewrite.at('uriRegexRewrite')
  if (regex.text('match') === '' || regex.text('rewrite') === '') {
    findings.error(regex.path, 'match or rewrite is missing', 'give both')
  } else findings.check(regex.pathOf('match'), regularExpression(regex.text('match')))
}
