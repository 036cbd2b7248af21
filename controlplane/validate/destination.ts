/** Where a route sends to, and how much of it. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { dnsLabel, portNumber, wildcardHostname } from './names.ts'

/** A host, a subset and a port. */
export function checkDestination(destination: Fields, findings: Findings): void {
  const host = destination.text('host')
  if (host === '*') findings.error(destination.pathOf('host'), 'is every host', 'name one host')
  else findings.check(destination.pathOf('host'), wildcardHostname(host))
  const subset = destination.text('subset')
  if (subset !== '') findings.check(destination.pathOf('subset'), dnsLabel(subset, 'name of a subset'))
  if (destination.has('port')) {
    const port = destination.at('port')
    findings.check(port.pathOf('number'), portNumber(port.whole('number')))
  }
}

/** `route`: destinations with weights. */
export function checkRoute(route: Fields, findings: Findings): void {
  const destinations = route.list('route')
  let total = 0
  for (const entry of destinations) {
    if (!entry.has('destination')) findings.error(entry.pathOf('destination'), 'is missing', 'name a host')
    else checkDestination(entry.at('destination'), findings)
    const weight = entry.number('weight')
    if (weight < 0) findings.error(entry.pathOf('weight'), 'is negative', 'use 0 or more')
    total += weight
  }
  if (destinations.length > 1 && total === 0) {
    findings.error(route.pathOf('route'), 'the weights of all destinations are 0', 'give them weights')
  }
}
