/** WorkloadGroup. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { checkLabels, portNumber } from './names.ts'

export function validateWorkloadGroup(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  if (!spec.has('template')) {
    findings.error(spec.pathOf('template'), 'is missing', 'say what the entries of the group look like')
    return
  }
  checkLabels(spec.at('metadata'), 'labels', findings)
  if (spec.has('probe')) checkProbe(spec.at('probe'), findings)
}

const counts = [
  'periodSeconds',
  'initialDelaySeconds',
  'timeoutSeconds',
  'successThreshold',
  'failureThreshold'
]

function checkProbe(probe: Fields, findings: Findings): void {
  for (const name of counts) {
    if (probe.number(name) < 0) findings.error(probe.pathOf(name), 'is negative', 'use 0 or more')
  }
  if (probe.has('httpGet')) {
    const get = probe.at('httpGet')
    findings.check(get.pathOf('port'), portNumber(get.number('port')))
    if (!['', 'HTTP', 'HTTPS'].includes(get.text('scheme'))) {
      findings.error(get.pathOf('scheme'), `${get.text('scheme')} is no scheme`, 'use HTTP or HTTPS')
    }
    for (const header of get.list('httpHeaders')) {
      if (!/^[-A-Za-z0-9]+$/.test(header.text('name'))) {
        findings.error(header.pathOf('name'), 'is no header name', 'use letters, digits and dashes')
      }
    }
  } else if (probe.has('tcpSocket')) {
    const socket = probe.at('tcpSocket')
    findings.check(socket.pathOf('port'), portNumber(socket.number('port')))
  } else if (probe.has('exec')) {
    const exec = probe.at('exec')
    if (exec.texts('command').length === 0)
      findings.error(exec.pathOf('command'), 'is missing', 'name a command')
  } else if (!probe.has('grpc')) {
    findings.error(probe.path, 'says no way to probe', 'set one of httpGet, tcpSocket and exec')
  } else {
    findings.error(probe.pathOf('grpc'), 'is not supported', 'use httpGet, tcpSocket or exec')
  }
}
