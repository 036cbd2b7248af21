/** Faults that are put in on purpose. Source: Istio's published HTTPFaultInjection. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { httpStatusOf, readGrpcStatus } from '../grpc-status.ts'
import { readDuration, readInner } from '../destination-rules/read-part.ts'
import type { Fault } from '../routes/route.ts'
import { readShare, shareOf, timerMs, type Reading } from './reading.ts'

export function readFault(fields: Fields, reading: Reading): Fault {
  return {
    delay: readInner(fields, 'delay', inner => readDelay(inner, reading)),
    abort: readInner(fields, 'abort', inner => readAbort(inner, reading))
  }
}

function readDelay(fields: Fields, { unsupported }: Reading): Fault['delay'] {
  const ms = timerMs(readDuration(fields, 'fixedDelay'))
  if (fields.text('exponentialDelay', '') !== '') {
    unsupported.add(`${fields.path}.exponentialDelay`, 'is not carried out; use fixedDelay')
  } else if (ms === undefined) {
    fields.problems.add(`${fields.path}.fixedDelay`, 'is required')
  }
  const percent = fields.integer('percent', 0, 100) // its older form
  const percentage = fields.inner('percentage')
  const share = percentage === undefined ? shareOf(percent) : readShare(percentage)
  return { ms: ms ?? 0, share }
}

function readAbort(fields: Fields, { unsupported }: Reading): Fault['abort'] {
  const share = readShare(fields.inner('percentage'))
  const status = fields.integer('httpStatus', 0, 599)
  const grpc = fields.text('grpcStatus', '')
  if (fields.text('http2Error', '') !== '') {
    unsupported.add(`${fields.path}.http2Error`, 'is not carried out; use httpStatus or grpcStatus')
    return undefined
  }
  if (grpc === '') {
    if (status < 200) fields.problems.add(`${fields.path}.httpStatus`, 'expected a status from 200 to 599')
    return { status, grpcStatus: undefined, share }
  }
  if (status > 0) fields.problems.add(fields.path, 'has httpStatus and grpcStatus; keep one of them')
  const grpcStatus = readGrpcStatus(grpc)
  if (grpcStatus === undefined) {
    fields.problems.add(
      `${fields.path}.grpcStatus`,
      `${JSON.stringify(grpc)} is no status such as UNAVAILABLE`
    )
  }
  return { status: httpStatusOf(grpcStatus ?? 2), grpcStatus, share }
}
