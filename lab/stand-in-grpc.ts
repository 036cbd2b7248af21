/** The stand-in's gRPC: `grpc.health.v1.Health` says SERVING, every other method returns each message it gets. */
import type { ServerHttp2Stream } from 'node:http2'

/** A HealthCheckResponse { status: SERVING } with the five bytes that frame a gRPC message. */
const serving = Buffer.from([0, 0, 0, 0, 2, 0x08, 0x01])

export function echoGrpc(stream: ServerHttp2Stream, path: string): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
  if (path === '/grpc.health.v1.Health/Check') {
    stream.resume()
    stream.end(serving)
  } else if (path === '/grpc.health.v1.Health/Watch') {
    // The call stays open, as its contract says: the state never changes.
    stream.resume()
    stream.write(serving)
  } else {
    stream.pipe(stream)
  }
}
