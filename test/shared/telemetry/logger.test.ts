import t from 'tap'
import {
  formatLogFilter,
  levelOf,
  LogOutput,
  parseLogFilter,
  Unquoted,
  type LogFilter
} from '../../../shared/telemetry/logger.ts'

function capture(filterText: string, format: 'plain' | 'json' = 'plain') {
  const lines: string[] = []
  const output = new LogOutput({
    filter: parseLogFilter(filterText) as LogFilter,
    format,
    sink: { write: line => lines.push(line) },
    now: () => 1_700_000_000_123
  })
  return { output, lines }
}

t.test('a plain line has time, level, target, message and fields', async t => {
  const { output, lines } = capture('info')
  output
    .logger('access')
    .info('connection complete', { 'src.addr': '10.0.0.1:5', bytes_sent: 3, absent: undefined })
  t.strictSame(lines, [
    '2023-11-14T22:13:20.123000Z\tinfo\taccess\tconnection complete\tsrc.addr="10.0.0.1:5" bytes_sent=3\n'
  ])
})

t.test('an address has no quotes, unless it could be taken for another field', async t => {
  const { output, lines } = capture('info')
  for (const text of ['[fd00::1]:15008', '10.0.0.1:5', 'cart.shop.svc:80', 'a:80 error="forged"', 'a\nb']) {
    output.logger('access').info('m', { 'dst.addr': new Unquoted(text) })
  }
  t.strictSame(
    lines.map(line => line.split('\t')[4]),
    [
      'dst.addr=[fd00::1]:15008\n',
      'dst.addr=10.0.0.1:5\n',
      'dst.addr=cart.shop.svc:80\n',
      'dst.addr="a:80 error=\\"forged\\""\n',
      'dst.addr="a\\nb"\n'
    ]
  )
  const json = capture('info', 'json')
  json.output.logger('access').info('m', { 'dst.addr': new Unquoted('10.0.0.1:5') })
  t.match(JSON.parse(json.lines[0] ?? ''), { 'dst.addr': '10.0.0.1:5' })
})

t.test('a JSON line has the fields flattened', async t => {
  const { output, lines } = capture('info', 'json')
  output.logger('xds').warn('late', { seconds: 3 })
  t.same(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    time: '2023-11-14T22:13:20.123000Z',
    scope: 'xds',
    message: 'late',
    seconds: 3
  })
})

t.test('a line never breaks into two', async t => {
  const { output, lines } = capture('info')
  output.logger('x').info('a\nb', { c: 'd\ne' })
  t.equal(lines[0]?.split('\n').length, 2)
})

t.test('levels are by target, the longest prefix decides, and change at run time', async t => {
  const { output, lines } = capture('proxy::inbound=debug,warn')
  const inbound = output.logger('proxy::inbound')
  const other = output.logger('proxy::outbound')
  inbound.debug('1')
  other.info('2')
  t.equal(lines.length, 1)
  t.ok(inbound.enabled('debug'))
  output.setFilter(parseLogFilter('debug', output.filter) as LogFilter)
  other.debug('3')
  t.equal(lines.length, 2)
  t.equal(levelOf(output.filter, 'proxy::inbound::connect'), 'debug')
  t.equal(formatLogFilter(output.filter), 'proxy::inbound=debug,debug')
})

t.test('ztunnel stands for every target but access', async t => {
  const filter = parseLogFilter('ztunnel=debug,ztunnel::xds=warn,info') as LogFilter
  const levels = ['proxy', 'xds', 'access'].map(target => levelOf(filter, target))
  t.strictSame(levels, ['debug', 'warn', 'info'])
})

t.test('filters are read with = or :, and refused when a part is no level', async t => {
  t.same(parseLogFilter('access:info,ztunnel::proxy=debug,off'), {
    fallback: 'off',
    targets: new Map([
      ['access', 'info'],
      ['proxy', 'debug']
    ])
  })
  for (const text of ['loud', 'a=', '=debug', 'a=b=c']) t.equal(parseLogFilter(text), undefined, text)
})
