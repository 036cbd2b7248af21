import t from 'tap'
import { ConfigError, EnvReader, parseDuration } from '../../../shared/runtime/env.ts'

t.test('every reader takes its default when the variable is not set', async t => {
  const env = new EnvReader({})
  t.equal(env.text('A', 'x', ''), 'x')
  t.equal(env.optional('B', ''), undefined)
  t.equal(env.flag('C', true, ''), true)
  t.equal(env.integer('D', 7, ''), 7)
  t.equal(env.port('E', 15001, ''), 15001)
  t.equal(env.duration('F', '5m', ''), 300_000)
  t.equal(env.choice('G', ['shared', 'dedicated'], 'shared', ''), 'shared')
  env.finish()
  t.equal(env.variables.length, 7)
})

t.test('all problems are reported together, each naming its variable', async t => {
  const env = new EnvReader({ C: 'maybe', D: '-1', E: '70000', F: 'soon', G: 'both' })
  env.flag('C', true, '')
  env.integer('D', 7, '')
  env.port('E', 1, '')
  env.duration('F', '5m', '')
  env.choice('G', ['shared', 'dedicated'], 'shared', '')
  env.problem('C and D exclude each other')
  t.throws(() => env.finish(), ConfigError)
  try {
    env.finish()
  } catch (error) {
    t.match((error as ConfigError).problems, [
      /^C="maybe": expected true or false/,
      /^D="-1": expected a whole number from 0/,
      /^E="70000": expected 0 to 65535/,
      /^F="soon": expected a duration/,
      /^G="both": expected shared \| dedicated/,
      /exclude/
    ])
  }
})

t.test('prefixed variables are found without the prefix', async t => {
  const env = new EnvReader({ ISTIO_META_A: '1', ISTIO_META_B: '2', OTHER: '3' })
  t.same(
    [...env.withPrefix('ISTIO_META_')],
    [
      ['A', '1'],
      ['B', '2']
    ]
  )
})

t.test('durations carry their unit', async t => {
  const situations: readonly (readonly [string, number | undefined])[] = [
    ['0', 0],
    ['250ms', 250],
    ['10s', 10_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1500],
    ['24h', 86_400_000],
    ['10', undefined],
    ['s', undefined],
    ['-1s', undefined],
    ['1s ', undefined]
  ]
  for (const [text, ms] of situations) t.equal(parseDuration(text), ms, text)
})
