/** GET …/pods/NAME/log. */
import { pipeline } from 'node:stream/promises'
import { ApiError, badRequest } from '../api-error.ts'
import { at, listOf, objectOf, textOf } from '../json.ts'
import type { ApiObject } from '../object.ts'
import type { ApiObjects } from '../objects.ts'
import type { LogRequest, PodRuntime } from '../pod-runtime.ts'
import type { Resource } from '../resources.ts'
import type { Exchange } from './exchange.ts'
import type { ResourcePath } from './request-target.ts'

export async function sendLogs(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  runtime: PodRuntime | undefined,
  exchange: Exchange,
  closing: AbortSignal
): Promise<void> {
  const pod = objects.get(resource, path)
  const container = containerOf(pod, exchange.query('container'))
  const signal = whileConnected(exchange, closing)
  const request = readRequest(exchange)
  const log = await running(runtime).logs(
    { namespace: path.namespace, pod: path.name, container },
    request,
    signal
  )
  exchange.response.writeHead(200, { 'content-type': 'text/plain' })
  exchange.response.flushHeaders()
  try {
    await pipeline(log, exchange.response, { signal })
  } catch {
    // the client went away, or the log broke off: either way the answer has begun and can only end
    exchange.response.destroy()
  }
}

export function running(runtime: PodRuntime | undefined): PodRuntime {
  if (runtime === undefined) throw new ApiError('ServiceUnavailable', 'no kubelet runs beside this API store')
  return runtime
}

/** Aborts when the client is gone or the store closes. */
function whileConnected(exchange: Exchange, closing: AbortSignal): AbortSignal {
  const gone = new AbortController()
  exchange.response.once('close', () => gone.abort())
  return AbortSignal.any([gone.signal, closing])
}

/** The named container, or the one that the pod's annotation prefers, or the only one. Throws 400. */
export function containerOf(pod: ApiObject, wanted: string | undefined): string {
  const names = ['containers', 'initContainers', 'ephemeralContainers'].flatMap(list =>
    listOf(at(pod, 'spec', list)).map(container => textOf(objectOf(container)['name']))
  )
  const { name } = pod.metadata
  if (wanted !== undefined) {
    if (names.includes(wanted)) return wanted
    throw badRequest(`container ${wanted} is not valid for pod ${name}`)
  }
  const [only, ...more] = listOf(at(pod, 'spec', 'containers')).map(container =>
    textOf(objectOf(container)['name'])
  )
  if (only !== undefined && more.length === 0) return only
  throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${names.join(' ')}]`)
}

function readRequest(exchange: Exchange): LogRequest {
  const [tailLines, sinceSeconds, limitBytes] = ['tailLines', 'sinceSeconds', 'limitBytes'].map(name =>
    exchange.number(name)
  )
  const sinceTime = exchange.query('sinceTime')
  if (sinceSeconds !== undefined && sinceTime !== undefined) {
    throw badRequest('at most one of `sinceTime` or `sinceSeconds` may be specified')
  }
  if (sinceTime !== undefined && Number.isNaN(Date.parse(sinceTime)))
    throw badRequest('sinceTime is not an RFC 3339 time')
  return {
    follow: exchange.flag('follow'),
    previous: exchange.flag('previous'),
    timestamps: exchange.flag('timestamps'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceSeconds === undefined ? {} : { sinceSeconds }),
    ...(sinceTime === undefined ? {} : { sinceTime }),
    ...(limitBytes === undefined ? {} : { limitBytes })
  }
}
