import { setMaxListeners } from 'node:events'
import { createInterface } from 'node:readline'
import { multiaddr } from '@multiformats/multiaddr'
import { Inbox, random, send, Tally } from './streams.js'

const SOON = 30_000

export async function runClient (libp2p, { options, emit, identified, version, proxyID, pingID, quit }) {
  const known = Promise.withResolvers()
  const wanted = options.dial.split('/p2p/').pop() // the relay on the way is identified, too
  libp2p.addEventListener('peer:identify', ({ detail }) => {
    if (detail.peerId.toString() === wanted) known.resolve(detail)
  })
  libp2p.addEventListener('peer:disconnect', ({ detail }) => emit({ event: 'disconnected', peer: detail.toString() }))
  const addrs = options.dial.split(',').map((text) => multiaddr(text))
  const connection = await libp2p.dial(addrs, { signal: AbortSignal.timeout(SOON) })
  const late = setTimeout(() => known.reject(new Error('identify timed out')), SOON)
  emit({ ...identified('connected', await known.promise), id: libp2p.peerId.toString(), libp2p: version })
  clearTimeout(late)

  const context = {
    libp2p,
    proxyID,
    pingID,
    /** The one that was dialled, or what has taken its place: DCUtR closes circuits. */
    get connection () {
      const others = libp2p.getConnections(connection.remotePeer)
      return connection.status === 'open' ? connection : others[0] ?? connection
    }
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const cmd = { timeout: 60, count: 1, ...JSON.parse(line) }
    if (cmd.cmd === 'close') {
      await libp2p.stop()
      emit({ id: cmd.id, ok: true })
      break
    }
    const start = performance.now()
    const signal = AbortSignal.timeout(cmd.timeout * 1000)
    setMaxListeners(0, signal)
    const run = commands[cmd.cmd] ?? (async () => ({ error: `unknown command ${cmd.cmd}` }))
    run(context, cmd, signal)
      .catch((error) => ({ ok: false, error: error.message }))
      .then((result) => emit({ ...result, id: cmd.id, ms: performance.now() - start }))
  }
  await quit(0)
}

const commands = {
  async ping ({ libp2p, connection }, cmd, signal) {
    const rtts = []
    for (let i = 0; i < cmd.count; i++) {
      const start = performance.now()
      await libp2p.services.ping.ping(connection.remotePeer, { signal })
      rtts.push(performance.now() - start)
    }
    return { ok: true, rtts_ms: rtts }
  },

  async 'bethrou-ping' ({ connection, pingID }, cmd, signal) {
    const stream = await connection.newStream(pingID, { signal })
    const inbox = new Inbox(stream)
    await stream.close({ signal })
    while (await inbox.read(signal) != null);
    return inbox.end === 'eof' ? { ok: true } : { ok: false, error: inbox.error.message }
  },

  async protocol ({ connection }, cmd, signal) {
    const stream = await connection.newStream(cmd.name, { signal })
    stream.abort(new Error('only a question'))
    return { ok: true }
  },

  request,
  abort: request,
  parallel
}

/** Sends a request, with early bytes in the same write behind it; returns the stream, its inbox and the exit's answer. */
async function open ({ connection, proxyID }, address, early, signal) {
  const stream = await connection.newStream(proxyID, { signal, maxOutboundStreams: 100_000, runOnLimitedConnection: true })
  const inbox = new Inbox(stream)
  try {
    await send(stream, Buffer.concat([Buffer.from(JSON.stringify({ address }) + '\n'), ...early]), signal)
    return { stream, inbox, answer: await inbox.readObject(signal) }
  } catch (error) {
    stream.abort(error)
    throw Object.assign(error, { end: inbox.end })
  }
}

/** Runs one proxied stream; an abort is one that ends by a reset after so many received bytes. */
async function request (context, cmd, signal) {
  const sent = new Tally()
  const received = new Tally()
  const payload = cmd.send_random == null
    ? [Buffer.from(cmd.send_hex ?? '', 'hex')]
    : random(cmd.send_random.seed, cmd.send_random.bytes)
  const early = cmd.early ? [...payload] : []
  early.forEach((chunk) => sent.add(chunk))

  let opened
  try {
    opened = await open(context, cmd.address, early, signal)
  } catch (error) {
    return { status: 'none', message: '', end: ended(context, error), error: error.message, code: null }
  }
  const { stream, inbox, answer } = opened
  const result = { status: answer.status, message: answer.message ?? '' }
  const sending = answer.status === 'ok'
    ? sendAll(stream, cmd.early ? [] : payload, sent, cmd.half_close, signal)
    : Promise.resolve()
  const failed = sending.then(() => null, (error) => error)
  const wanted = cmd.read_until_eof || answer.status !== 'ok' ? Infinity : (cmd.read_bytes ?? 0) + (cmd.after_bytes ?? 0)
  try {
    result.end = await receive(inbox, received, wanted, signal)
    if (result.end === 'eof' && context.connection.status !== 'open') result.end = 'connection'
    if (result.end === 'reset') result.code = null // js-libp2p does not show the code
    if (inbox.error != null && result.end !== 'open') result.error = inbox.error.message
  } catch (error) {
    Object.assign(result, { end: ended(context, error), error: error.message })
  }
  if (cmd.cmd === 'abort' && cmd.how !== 'close') stream.abort(new Error('aborted by command'))
  const error = await failed
  if (error != null) result.send_error = error.message
  finish(stream)
  return { ...result, ...sent.report('sent'), ...received.report('received') }
}

async function sendAll (stream, payload, sent, halfClose, signal) {
  for (const chunk of payload) {
    await send(stream, chunk, signal)
    sent.add(chunk)
  }
  if (halfClose) await stream.close({ signal })
}

/** Reads up to so many bytes; returns how the stream ended, or "open". */
async function receive (inbox, received, wanted, signal) {
  while (received.count < wanted) {
    const chunk = await inbox.read(signal)
    if (chunk == null) return inbox.end
    const room = Math.min(chunk.byteLength, wanted - received.count)
    received.add(chunk.subarray(0, room))
    inbox.unread(chunk.subarray(room))
  }
  return 'open'
}

function ended ({ connection }, error) {
  if (error.name === 'TimeoutError' || error.name === 'AbortError') return 'timeout'
  if (connection.status !== 'open') return 'connection'
  return error.end ?? (error.name === 'StreamResetError' ? 'reset' : 'error')
}

/** Ends our side, and no longer reads the other one. */
function finish (stream) {
  stream.close().then(() => stream.closeRead()).catch(() => {})
}

/** Holds count streams open at a time, and only then has each of them echoed its own bytes. */
async function parallel (context, cmd, signal) {
  const refused = {}
  const broken = {}
  let matched = 0
  const add = (reasons, text) => { reasons[text] = (reasons[text] ?? 0) + 1 }
  const tries = await Promise.all(Array.from({ length: cmd.count }, async (_, i) => {
    try {
      const opened = await open(context, cmd.address, [], signal)
      if (opened.answer.status === 'ok') return { ...opened, seed: String(i) }
      add(refused, opened.answer.message)
      finish(opened.stream)
    } catch (error) {
      add(refused, error.message)
    }
    return null
  }))
  const held = tries.filter((opened) => opened != null)
  await Promise.all(held.map(async ({ stream, inbox, seed }) => {
    const sent = new Tally()
    const received = new Tally()
    try {
      const [end] = await Promise.all([
        receive(inbox, received, cmd.bytes, signal),
        sendAll(stream, random(seed, cmd.bytes), sent, false, signal)
      ])
      if (end !== 'open') throw inbox.error ?? new Error(end)
      if (sent.sum() !== received.sum()) throw new Error('other bytes came back')
      matched++
      finish(stream)
    } catch (error) {
      add(broken, error.message)
      stream.abort(error)
    }
  }))
  return { ok: held.length, refused, matched, broken }
}
