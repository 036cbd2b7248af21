/** `npm run demo` as its users run it: every claim holds, and nothing is left. */
import t from 'tap'
import { existsSync } from 'node:fs'
import { LabProcess, users } from './lab-process.ts'

t.setTimeout(400_000)

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
    const [, held, all] = /(\d+) of (\d+) claims held/.exec(stdout) ?? []
    t.equal(held, all)
    t.ok(Number(all) >= 17, 'the tour has not become shorter')
    t.notOk(existsSync(`${demo.folder}-demo`), 'its folder is gone')
  })
}

t.test('a tour that cannot start says why and fails', async t => {
  const demo = new LabProcess(t, 'root', ['demo', '--fast'])
  t.match(await demo.ended(), { code: 1, stderr: /demo: Unknown option '--fast'/ })
})
