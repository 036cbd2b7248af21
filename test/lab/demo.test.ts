/** `npm run demo` as its users run it: every claim holds, and nothing is left. */
import t from 'tap'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { LabProcess, users } from './lab-process.ts'

t.setTimeout(400_000)

/** The lines of a tour without what differs each time: packets, ports, times, counts, names of pods. */
function shape(text: string): readonly string[] {
  return text
    .trim()
    .split('\n')
    .filter(line => !/:\d+ > \d/.test(line))
    .map(line =>
      line
        .replace(/-[a-z0-9]{8}-[a-z0-9]{5}"/, '-POD"')
        .replaceAll(/\d+/g, 'N')
        .replaceAll(/N\.N s/g, 'N s')
    )
}

const readme = readFileSync(path.resolve(import.meta.dirname, '../../README.md'), 'utf8')
const recorded = shape(/^```\n(Underpass, a tour:.*?)\n```$/ms.exec(readme)?.[1] ?? '')

for (const { user, skip } of await users({ withCurl: false })) {
  t.test(`as ${user}: the tour proves what it tells`, { skip }, async t => {
    const demo = new LabProcess(t, user, ['demo'])
    const { code, stdout, stderr } = await demo.ended()
    t.equal(code, 0, stderr)
    t.notMatch(stdout, 'FAIL', 'every claim holds')
    const told = [
      /> 10\.244\.2\.\d+:8080 +GET \/orders\?card=4711-0815 HTTP\/1\.1/,
      /ok +the card number is readable on the wire/,
      /> 10\.244\.2\.\d+:15008 +1[4-7]03/,
      /ok +all of it travels as TLS 1\.3 to port 15008/,
      /ok +a connection that was open all the time stays open: \d+ requests, 0 failed/,
      /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web"/,
      /error=".*policy rejection/,
      /ok +all of it is gone: no process, no namespace, no file is left/,
      /with the policy +visitor +cart +HBONE, TLS 1\.3 +refused by policy/
    ]
    for (const line of told) t.match(stdout, line)
    t.strictSame(shape(stdout), recorded, 'the README shows what is printed')
    const [, held, all] = /(\d+) of (\d+) claims held/.exec(stdout) ?? []
    t.equal(held, all)
    t.ok(Number(all) >= 23, 'the tour has not become shorter')
    t.notOk(existsSync(`${demo.folder}-demo`), 'its folder is gone')
  })
}

t.test('a tour that cannot start says why and fails', async t => {
  const demo = new LabProcess(t, 'root', ['demo', '--fast'])
  t.match(await demo.ended(), { code: 1, stderr: /demo: Unknown option '--fast'/ })
})
