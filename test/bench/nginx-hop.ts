/**
 * nginx `stream` with mutual TLS as one hop, the yardstick that everybody has: it carries bytes inside TLS without
 * HTTP/2, identities, policy or metrics. A fixed target per port, since it cannot learn the original destination.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** One listener: where it accepts, where it forwards to, and which side of the TLS it is. */
export interface NginxRoute {
  readonly listen: string
  readonly forward: string
  readonly role: 'tls-client' | 'tls-server'
}

export interface NginxHop {
  /** The worker: it carries the traffic. The master only waits. */
  readonly pid: number
  stop(): Promise<void>
}

/** Files of the key pair and root that both hops use: `cert.pem`, `key.pem`, `root.pem`. */
export async function startNginxHop(
  netns: string,
  folder: string,
  certificates: string,
  routes: readonly NginxRoute[]
): Promise<NginxHop> {
  mkdirSync(folder, { recursive: true })
  const pidFile = path.join(folder, 'nginx.pid')
  const file = path.join(folder, 'nginx.conf')
  const pem = (name: string): string => path.join(certificates, name)
  const servers = routes.map(({ listen, forward, role }) =>
    role === 'tls-client'
      ? `server { listen ${listen}; proxy_pass ${forward}; proxy_ssl on; proxy_ssl_protocols TLSv1.3;
           proxy_ssl_certificate ${pem('cert.pem')}; proxy_ssl_certificate_key ${pem('key.pem')};
           proxy_ssl_trusted_certificate ${pem('root.pem')}; proxy_ssl_verify on; proxy_ssl_name bench.local; proxy_ssl_session_reuse off; }`
      : `server { listen ${listen} ssl; proxy_pass ${forward}; ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
           ssl_certificate ${pem('cert.pem')}; ssl_certificate_key ${pem('key.pem')};
           ssl_client_certificate ${pem('root.pem')}; ssl_verify_client on; }`
  )
  writeFileSync(
    file,
    `daemon off; worker_processes 1; pid ${pidFile}; error_log ${path.join(folder, 'error.log')};
     include /etc/nginx/modules-enabled/50-mod-stream.conf;
     events { worker_connections 30000; }
     worker_rlimit_nofile 65536;
     stream { tcp_nodelay on; proxy_connect_timeout 10s; proxy_timeout 1h; proxy_buffer_size 64k;
       ${servers.join('\n       ')} }`
  )
  const master = spawn('ip', ['netns', 'exec', netns, 'nginx', '-c', file], {
    stdio: 'ignore',
    detached: true
  })
  const worker = await workerOf(master)
  return { pid: worker, stop: () => stop(master) }
}

/**
 * nginx as the small HTTP server behind the hops: 22 bytes an answer, connections kept. `megabyte`: how many bytes
 * `/megabyte` answers, when it is given.
 */
export async function startHttpServer(
  netns: string,
  folder: string,
  listen: string,
  megabyte = 0
): Promise<NginxHop> {
  mkdirSync(folder, { recursive: true })
  const body = path.join(folder, 'megabyte')
  writeFileSync(body, Buffer.alloc(megabyte, 'x'))
  const file = path.join(folder, 'nginx.conf')
  writeFileSync(
    file,
    `daemon off; user root; worker_processes 1; pid ${path.join(folder, 'nginx.pid')}; error_log ${path.join(folder, 'error.log')};
     events { worker_connections 30000; }
     worker_rlimit_nofile 65536;
     http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;
       server { listen ${listen} backlog=4096; location / { return 200 "twenty-two bytes here\\n"; }
         location = /megabyte { alias ${body}; } } }`
  )
  const master = spawn('ip', ['netns', 'exec', netns, 'nginx', '-c', file], {
    stdio: 'ignore',
    detached: true
  })
  const worker = await workerOf(master)
  return { pid: worker, stop: () => stop(master) }
}

async function workerOf(master: ChildProcess): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    if (master.exitCode !== null) throw new Error('nginx did not start; its error.log says why')
    const [worker] = childrenOf(master.pid ?? 0)
    if (worker !== undefined) return worker
    await delay(50)
  }
  throw new Error('nginx started no worker within 5 s')
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number)
}

async function stop(master: ChildProcess): Promise<void> {
  if (master.exitCode !== null) return
  const ended = new Promise(resolve => master.on('close', resolve))
  master.kill('SIGTERM')
  await ended
}
