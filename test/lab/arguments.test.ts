import t from 'tap'
import { parseCommand, usage, UsageError, type LabCommand } from '../../lab/arguments.ts'

const up: LabCommand = {
  verb: 'up',
  manifests: [],
  nodes: 2,
  detach: false,
  mesh: true,
  internet: false,
  runCommands: 'allow-list'
}

const understood: readonly (readonly [words: string, command: LabCommand])[] = [
  ['up', up],
  ['up -f a.yaml -f b --nodes 3 --detach', { ...up, manifests: ['a.yaml', 'b'], nodes: 3, detach: true }],
  ['up --no-mesh --run-commands=none', { ...up, mesh: false, runCommands: 'none' }],
  [
    'exec -n shop web -- curl -s http://cart/',
    {
      verb: 'exec',
      namespace: 'shop',
      target: 'web',
      container: undefined,
      command: ['curl', '-s', 'http://cart/']
    }
  ],
  [
    'exec -it deploy/web -c web -- sh --help',
    { verb: 'exec', namespace: 'default', target: 'deploy/web', container: 'web', command: ['sh', '--help'] }
  ],
  ['kubectl get pods --help', { verb: 'kubectl', words: ['get', 'pods', '--help'] }],
  ['status -o json', { verb: 'status', json: true }],
  ['down', { verb: 'down' }],
  ['kubeconfig', { verb: 'kubeconfig' }],
  ['up --help', { verb: 'help', topic: 'up' }],
  ['', { verb: 'help', topic: '' }]
]

t.test('each command is understood as documented', async t => {
  for (const [words, command] of understood)
    t.strictSame(parseCommand(words.split(' ').filter(Boolean)), command, words)
})

const refused: readonly (readonly [words: string, message: RegExp])[] = [
  ['fly', /there is no command "fly"/],
  ['up --nodes 0', /--nodes 0: expected a number from 1 to 9/],
  ['up --run-commands some', /expected allow-list, all, none/],
  ['up shop.yaml', /up: Unexpected argument 'shop.yaml'/],
  ['up --colour', /up: Unknown option '--colour'/],
  ['exec -n shop web', /put the command after "--"/],
  ['exec -- ls', /name a pod or a deployment/],
  ['status -o yaml', /expected table or json/]
]

t.test('what cannot be understood is refused with the word and the remedy', async t => {
  for (const [words, message] of refused) {
    t.throws(() => parseCommand(words.split(' ')), { name: 'UsageError', message }, words)
  }
  t.ok(new UsageError('x') instanceof Error)
})

t.test('every command has a help text', async t => {
  for (const verb of ['up', 'down', 'status', 'exec', 'kubectl', 'kubeconfig', 'check', 'demo']) {
    t.match(usage[verb], /Usage: underpass lab/, verb)
    t.match(usage[''], new RegExp(`^  ${verb} `, 'm'), verb)
  }
})
