/** `underpass`: what a person at a shell does with the mesh. */
import { spawn } from 'node:child_process'
import { runCli } from './program.ts'

const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interrupted.signal.aborted) process.exit(130) // asked twice: do not wait for anything
    interrupted.abort()
  })
}
// a reader that went away, such as `| head`, is no failure
process.stdout.on('error', () => process.exit(0))

const code = await runCli(process.argv.slice(2), {
  out: text => void process.stdout.write(text),
  err: text => void process.stderr.write(text),
  env: process.env,
  clear: () => void process.stdout.write('\u001b[H\u001b[2J'),
  terminal: process.stdout.isTTY,
  width: process.stdout.columns || 100,
  signal: interrupted.signal,
  now: Date.now,
  readInput: async () => {
    let text = ''
    for await (const chunk of process.stdin.setEncoding('utf8')) text += String(chunk)
    return text
  },
  spawn: (command, args) =>
    new Promise((resolve, reject) => {
      // the child is in our process group, so the terminal's interrupt reaches it by itself
      const child = spawn(command, args, { stdio: 'inherit' })
      interrupted.signal.addEventListener('abort', () => child.kill('SIGTERM'))
      child.once('error', reject)
      child.once('close', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)))
    })
})

// Connections that still say goodbye are not waited for, but what was printed is.
process.stdout.write('', () => process.exit(code))
