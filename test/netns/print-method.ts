/** Prints how this machine can capture, for agent-methods.test.ts, which runs it with few programs in its PATH. */
import { findCaptureMethod } from '../../daemonset/probe-method.ts'

process.stdout.write(JSON.stringify(await findCaptureMethod({ mode: 'auto', backend: 'auto' })))
