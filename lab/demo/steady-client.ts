/**
 * A client that keeps one HTTP connection open and asks again and again, until its standard input ends. Then it
 * prints what it saw. A program of its own: the tour runs it inside a pod.
 */
import http from 'node:http'

export interface SteadyResult {
  readonly requests: number
  readonly failures: number
  /** TCP connections that it took. */
  readonly connections: number
}

const pauseMs = 50

if (import.meta.main) {
  const url = process.argv[2] ?? ''
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  let [requests, failures, connections] = [0, 0, 0]
  const stopping = new AbortController()
  process.stdin.resume().once('end', () => stopping.abort())
  while (!stopping.signal.aborted) {
    requests += 1
    const outcome = await ask(url, agent)
    if (outcome === 'failed') failures += 1
    if (outcome !== 'same connection') connections += 1
    await new Promise(resolve => setTimeout(resolve, pauseMs))
  }
  agent.destroy()
  console.log(JSON.stringify({ requests, failures, connections } satisfies SteadyResult))
}

function ask(url: string, agent: http.Agent): Promise<'same connection' | 'new connection' | 'failed'> {
  return new Promise(resolve => {
    const request = http.get(url, { agent, timeout: 5000 }, response => {
      response.resume()
      response.once('end', () => resolve(request.reusedSocket ? 'same connection' : 'new connection'))
      response.once('error', () => resolve('failed'))
    })
    request.once('timeout', () => request.destroy())
    request.once('error', () => resolve('failed'))
  })
}
