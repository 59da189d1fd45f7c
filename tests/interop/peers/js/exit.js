import net from 'node:net'
import { Inbox, send } from './streams.js'

const MESSAGES = { ECONNREFUSED: 'connect: connection refused', ENOTFOUND: 'no such host', ENETUNREACH: 'network is unreachable' }

export async function runExit (libp2p, { emit, identified, version, proxyID, pingID }) {
  libp2p.addEventListener('peer:identify', ({ detail }) => emit(identified('identified', detail)))
  libp2p.addEventListener('peer:disconnect', ({ detail }) => emit({ event: 'disconnected', peer: detail.toString() }))
  const options = { maxInboundStreams: 100_000, maxOutboundStreams: 100_000, runOnLimitedConnection: true }
  await libp2p.handle(pingID, async (stream) => { await stream.close() }, options)
  await libp2p.handle(proxyID, (stream, connection) => {
    const line = { event: 'served', peer: connection.remotePeer.toString() }
    serve(stream, line)
      .catch((error) => {
        line.end ??= error.message || error.name
        stream.abort(error)
      })
      .then(() => emit(line))
  }, options)
  const addrs = libp2p.getMultiaddrs().map(String)
  emit({ event: 'listening', addrs, id: libp2p.peerId.toString(), libp2p: version })
}

async function serve (stream, line) {
  const inbox = new Inbox(stream)
  let socket
  try {
    const { address } = await inbox.readObject()
    line.address = address
    socket = await dial(address)
  } catch (error) {
    const message = MESSAGES[error.code] ?? error.message
    Object.assign(line, { status: 'error', message })
    await send(stream, Buffer.from(JSON.stringify({ status: 'error', message }) + '\n'))
    await stream.close()
    return
  }
  line.status = 'ok'
  let failure = null
  const abort = (error) => {
    failure ??= error
    stream.abort(error)
    socket.resetAndDestroy()
  }
  socket.on('error', abort)
  stream.addEventListener('close', ({ error }) => { if (error != null) abort(error) })
  await send(stream, Buffer.from('{"status":"ok"}\n'))
  const [up, down] = await Promise.all([
    copyUp(inbox, socket).catch(abort),
    copyDown(socket, stream).catch(abort)
  ])
  Object.assign(line, { up, down, end: failure == null ? 'eof' : failure.message || failure.name })
}

function dial (address) {
  const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? []
  if (port == null) return Promise.reject(new Error(`address ${address}: missing port in address`))
  const { promise, resolve, reject } = Promise.withResolvers()
  const socket = net.connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true })
  socket.setTimeout(10_000, () => socket.destroy(new Error('dial: i/o timeout')))
  socket.once('error', reject)
  socket.once('connect', () => {
    socket.setTimeout(0)
    socket.off('error', reject)
    resolve(socket)
  })
  return promise
}

async function copyUp (inbox, socket) {
  let count = 0
  for (let chunk; (chunk = await inbox.read()) != null; count += chunk.byteLength) {
    if (!socket.write(chunk)) await drained(socket)
  }
  if (inbox.error != null) throw inbox.error
  socket.end()
  return count
}

function drained (socket) {
  const { promise, resolve } = Promise.withResolvers()
  const done = () => {
    socket.off('drain', done).off('close', done)
    resolve()
  }
  socket.on('drain', done).on('close', done)
  return promise
}

async function copyDown (socket, stream) {
  let count = 0
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    count += chunk.byteLength
    await send(stream, chunk)
  }
  await stream.close()
  return count
}
