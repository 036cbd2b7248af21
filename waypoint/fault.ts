/**
 * Faults that a rule puts in on purpose: a request waits, and then may be answered with a failure. Source: Istio's
 * published HTTPFaultInjection; Envoy's flags DI and FI.
 */
import type { Exchange } from './http/exchange.ts'
import type { LocalReply } from './local-reply.ts'
import { clientGone, type RequestReport } from './request-report.ts'
import type { Fault } from './routes/route.ts'

export interface FaultContext {
  readonly random: () => number
  readonly report: Pick<RequestReport, 'delayed' | 'finish'>
  /** What `then` throws after a pause, where nobody else could catch it. */
  readonly onDefect: (error: unknown) => void
}

/** Calls `then` with the answer that takes the request's place, if one does; never, where the client leaves before. */
export function injectFault(
  fault: Fault | undefined,
  exchange: Exchange,
  { random, report, onDefect }: FaultContext,
  then: (reply: LocalReply | undefined) => void
): void {
  if (fault === undefined) return then(undefined)
  const { delay } = fault
  if (delay === undefined || random() >= delay.share) return then(abortOf(fault, random))
  report.delayed()
  const timer = setTimeout(() => {
    try {
      exchange.onGone(() => undefined)
      then(abortOf(fault, random))
    } catch (error) {
      onDefect(error)
    }
  }, delay.ms)
  exchange.onGone(() => {
    clearTimeout(timer)
    report.finish(clientGone)
  })
}

function abortOf({ abort }: Fault, random: () => number): LocalReply | undefined {
  if (abort === undefined || random() >= abort.share) return undefined
  const { status, grpcStatus } = abort
  return { status, grpcStatus, body: 'fault filter abort', flag: 'FI', details: 'fault_filter_abort' }
}
