/** Plaintext connections that arrive for the pod, captured on 15006: the same policies, with no identity. */
import type net from 'node:net'
import type { Workload } from '../shared/mesh/model.ts'
import { relay } from '../shared/net/relay.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import type { LoggedConnection } from '../shared/telemetry/access-log.ts'
import { connectApplication } from './application.ts'
import { authorize } from './authorize.ts'
import { capturedFlow, type Flow } from './capture.ts'
import { intendedService } from './inbound-target.ts'
import { isIllegalPort, ownWorkload, type Pod } from './pod.ts'

export async function proxyPassthrough(pod: Pod, socket: net.Socket): Promise<void> {
  const flow = capturedFlow(socket, pod.config.ports.passthrough)
  if (flow === undefined) {
    socket.destroy() // gone before we looked
    return
  }
  let workload: Workload
  try {
    if (isIllegalPort(pod.config, flow.destination.port)) {
      throw new MeshError('RECURSIVE_CALL', 'attempted recursive call to ourselves')
    }
    workload = await ownWorkload(pod)
  } catch (error) {
    pod.reports.refused(
      { direction: 'inbound', sourceAddress: flow.source, destinationAddress: flow.destination },
      error
    )
    socket.destroy()
    return
  }
  const { source: client, destination: target } = flow
  const report = pod.reports.begin(describe(pod, flow, workload))
  const tracked = {
    direction: 'inbound',
    source: client,
    identity: undefined,
    target,
    forwardedHost: undefined
  } as const
  using connection = pod.connections.track(tracked, report.bytes)
  try {
    authorize(pod, workload, tracked)
    const application = await connectApplication(pod, { client, target, proxied: false }, connection.signal)
    report.open()
    await relay(socket, application, report.bytes, connection.signal)
    report.finish()
  } catch (error) {
    report.fail(error)
    socket.resetAndDestroy() // a refusal looks like one, not like an application that had nothing to say
  }
}

function describe(pod: Pod, { source, destination }: Flow, workload: Workload): LoggedConnection {
  const { client, service } = pod.mesh.read(view => ({
    client: view.workloadByAddress(pod.config.network, source.ip),
    service: intendedService(view, workload, undefined, destination.port)
  }))
  return {
    reporter: 'destination',
    source: { workload: client, identity: undefined, baggage: undefined },
    destination: { workload, identity: undefined, baggage: undefined },
    service,
    mutualTls: false,
    sourceAddress: source,
    destinationAddress: destination,
    authority: undefined
  }
}
