/**
 * Who reads the wall clock, and why. It can be set forward and back at any time; whatever measures a duration uses
 * `steadyClock` or timers, which go on as if nothing had happened.
 */
import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)

const readers: Readonly<Record<string, string>> = {
  'shared/runtime/clock.ts': 'is the clock',
  'shared/identity/certificate-store.ts': 'lives of certificates are given in wall time',
  'shared/identity/fake-ca.ts': 'lives of certificates are given in wall time',
  'shared/hbone/session-options.ts': 'a session ends with its certificates',
  'shared/kube/exec-credential.ts': 'lives of credentials are given in wall time',
  'shared/telemetry/logger.ts': 'log lines carry the time',
  'shared/xds/grpc-client.ts': 'the gRPC library takes deadlines as a time',
  'ztunnel/worker.ts': 'events carry the time, certificates end at one',
  'daemonset/app.ts': 'Events of Kubernetes carry the time',
  'controlplane/app.ts': 'certificates and conditions of objects carry the time',
  'controlplane/write/leader.ts': 'the lease says when it was renewed',
  'controlplane/xds/server.ts': 'says since when a client is connected'
}

t.test('only those read the wall clock that need the time of day', async t => {
  const files = ['shared', 'ztunnel', 'daemonset', 'controlplane'].flatMap(folder =>
    globSync(`${folder}/**/*.ts`, { cwd: root })
  )
  t.ok(files.length > 100, 'the scan sees what is there')
  const found = files.filter(file =>
    /Date\.now|new Date\(\)|systemClock/.test(readFileSync(path.join(root, file), 'utf8'))
  )
  t.strictSame(
    found.filter(file => readers[file] === undefined),
    [],
    'a new reader says why; a duration takes steadyClock'
  )
})
