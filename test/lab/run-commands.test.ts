import t from 'tap'
import { commandsOf, programOf, type ContainerCommand } from '../../lab/run-commands.ts'

const find = (program: string): string | undefined => {
  const name = program.split('/').at(-1) ?? ''
  return ['curl', 'sh', 'sleep', 'date', 'env', 'timeout', 'server', 'python3'].includes(name)
    ? `/usr/bin/${name}`
    : undefined
}

const harmless: readonly (readonly [
  claim: string,
  container: ContainerCommand,
  command: readonly string[]
])[] = [
  [
    'a sleeping client',
    { image: 'curlimages/curl', command: ['/bin/sleep', 'infinity'] },
    ['/usr/bin/sleep', 'infinity']
  ],
  [
    'command and args together',
    { command: ['sh', '-c'], args: ['sleep 1'] },
    ['/usr/bin/sh', '-c', 'sleep 1']
  ],
  [
    'a loop that asks a server',
    { command: ['sh', '-c', 'while true; do curl -s "http://web/$(date +%s)" > /dev/null; sleep 1; done'] },
    ['/usr/bin/sh', '-c', 'while true; do curl -s "http://web/$(date +%s)" > /dev/null; sleep 1; done']
  ],
  [
    'the arguments of an image whose entry point is known',
    { image: 'docker.io/curlimages/curl:8.16.0', args: ['-s', 'http://web/'] },
    ['/usr/bin/curl', '-s', 'http://web/']
  ],
  ['a program started by env', { command: ['env', 'A=1', 'curl', 'x'] }, ['/usr/bin/env', 'A=1', 'curl', 'x']]
]

t.test('a command on the allow-list runs as it is', async t => {
  for (const [claim, container, command] of harmless) {
    t.strictSame(programOf(container, 'allow-list', find), { kind: 'command', command }, claim)
  }
})

const strangers: readonly (readonly [claim: string, container: ContainerCommand, reason: RegExp])[] = [
  ['an image alone', { image: 'nginx:1.29' }, /the image nginx:1.29 is not here/],
  ['a program of the image', { command: ['/app/server', '--port=80'] }, /server is not on the allow-list/],
  ['an interpreter', { command: ['python3', '-m', 'http.server'] }, /python3 is not on the allow-list/],
  [
    'a script that runs a program of the image',
    { command: ['sh', '-c', 'sleep 1 && exec /app/server'] },
    /its script runs \/app\/server/
  ],
  [
    'a program in a command substitution',
    { command: ['sh', '-c', 'echo "$(/app/secret)"'] },
    /runs \/app\/secret/
  ],
  ['a program behind env', { command: ['env', 'A=1', '/app/server'] }, /server is not on the allow-list/],
  ['a script file of the image', { command: ['sh', '/entrypoint.sh'] }, /a script file is not here/],
  [
    'an allowed program that this machine lacks',
    { command: ['wget', 'http://web/'] },
    /wget is not installed here/
  ]
]

t.test('what is not on the allow-list, or not here, gets a stand-in with the reason', async t => {
  for (const [claim, container, reason] of strangers) {
    const program = programOf(container, 'allow-list', find)
    t.equal(program.kind, 'stand-in', claim)
    t.match(program, { reason }, claim)
  }
})

t.test('--run-commands=all runs what the machine has, none runs nothing', async t => {
  const server = { command: ['server', '--port=80'] }
  t.strictSame(programOf(server, 'all', find), { kind: 'command', command: ['/usr/bin/server', '--port=80'] })
  t.match(programOf({ command: ['sleep', '1'] }, 'none', find), {
    kind: 'stand-in',
    reason: '--run-commands=none'
  })
})

t.test('the commands of a script are the words where a shell would look for one', async t => {
  t.strictSame(commandsOf('if test -f x; then A=1 curl y | grep z; fi # rm -rf'), [
    'test',
    'curl',
    'grep',
    'fi'
  ])
  t.strictSame(commandsOf('echo \'rm; reboot\' "and $(date)"'), ['date', 'echo'])
})
