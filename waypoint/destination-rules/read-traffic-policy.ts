/** `trafficPolicy` of a rule or a subset. Source: Istio's published TrafficPolicy. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { RetryBudget } from '../traffic-policy.ts'
import type { PolicyParts, PortPolicyParts, RulePolicy } from './destination-rule.ts'
import { readConnectionPool } from './read-connection-pool.ts'
import { readLoadBalancer } from './read-load-balancer.ts'
import { readOutlierDetection } from './read-outlier-detection.ts'
import { readTls } from './read-tls.ts'
import { readDuration, readInner, readPart, type PartsHolder } from './read-part.ts'

/** `holder`: what has the field. */
export function readTrafficPolicy({ fields: holder, rule }: PartsHolder): RulePolicy | undefined {
  return readInner(holder, 'trafficPolicy', fields => ({
    parts: { ...readPortParts({ fields, rule }), ...readOtherParts({ fields, rule }) },
    ports: readPorts({ fields, rule })
  }))
}

/** Of two for one port the first counts. */
function readPorts({ fields: holder, rule }: PartsHolder): ReadonlyMap<number, PolicyParts> {
  const ports = holder.list('portLevelSettings', (value, path) => {
    const fields = new Fields(value, path, holder.problems)
    const port = readInner(fields, 'port', inner => inner.integer('number', 0, 65_535)) ?? 0
    if (port === 0) fields.problems.add(`${path}.port.number`, 'is required: from 1 to 65535')
    const parts = readPortParts({ fields, rule })
    fields.end()
    return [port, parts] as const
  })
  return new Map(ports.toReversed())
}

function readPortParts(holder: PartsHolder): PortPolicyParts {
  return withoutAbsent({
    loadBalancer: readPart(holder, 'loadBalancer', readLoadBalancer),
    connectionPool: readPart(holder, 'connectionPool', readConnectionPool),
    outlierDetection: readPart(holder, 'outlierDetection', readOutlierDetection),
    tls: readPart(holder, 'tls', readTls)
  })
}

function readOtherParts(holder: PartsHolder): PolicyParts {
  return withoutAbsent({
    tunnel: readPart(holder, 'tunnel', (fields, unsupported) => {
      fields.text('protocol', '')
      fields.text('targetHost')
      fields.integer('targetPort', 0, 65_535)
      unsupported.add(fields.path, 'is not carried out by waypoints; leave it out')
      return {}
    }),
    proxyProtocol: readPart(holder, 'proxyProtocol', (fields, unsupported) => {
      fields.choice('version', ['V1', 'V2'], 'V1')
      unsupported.add(fields.path, 'is not carried out by waypoints; leave it out')
      return {}
    }),
    retryBudget: readPart(holder, 'retryBudget', readRetryBudget)
  })
}

const usualRetryPercent = 20
const usualRetries = 3

function readRetryBudget(fields: Fields): { readonly retryBudget: RetryBudget } {
  return {
    retryBudget: {
      percent: fields.number('percent', usualRetryPercent, 100),
      // 0 is what the field says when nobody set it.
      minConcurrency: fields.integer('minRetryConcurrency', 0, 2 ** 32 - 1) || usualRetries,
      intervalMs: readDuration(fields, 'budgetInterval', 0) ?? 0
    }
  }
}

/** A part that is said to be undefined would take the place of one that a subset inherits. */
function withoutAbsent<T extends object>(parts: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined)) as {
    [Name in keyof T]?: Exclude<T[Name], undefined>
  }
}
