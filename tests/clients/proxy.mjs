// Stands between a broker and its engine, passes everything on, and keeps what it saw: requests, upgrades, frames.
// It can cut the sockets. It changes nothing.
import { EventEmitter } from 'node:events';
import http from 'node:http';

import WebSocket, { WebSocketServer } from 'ws';

import { atEnd } from './support.mjs';

const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'host'];

export class Proxy extends EventEmitter {
  /** `{ method, path, status }` in the order of their answers. */
  requests = [];
  /** `{ path, status }` of the WebSocket upgrades. */
  upgrades = [];
  /** `{ from: 'broker' | 'engine', text, frame }` on /v1/node/ws; `frame` is undefined when the text is not JSON. */
  frames = [];

  /** In front of `{ url, key }`; itself has both, too, and is passed to a broker in the engine's place. */
  static async start(t, engine) {
    const proxy = new Proxy(engine);
    await new Promise((ok) => { proxy.server.listen(0, '127.0.0.1', ok); });
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    atEnd(t, () => proxy.stop());
    return proxy;
  }

  constructor(engine) {
    super();
    this.setMaxListeners(0);
    this.target = engine.url;
    this.key = engine.key;
    this.sockets = new Set();
    this.streams = new Set();
    this.upgrader = new WebSocketServer({ noServer: true });
    this.server = http.createServer((request, response) => this.#request(request, response));
    this.server.on('upgrade', (request, stream, head) => this.#upgrade(request, stream, head));
    this.server.on('connection', (stream) => {
      this.streams.add(stream);
      stream.on('close', () => this.streams.delete(stream));
    });
  }

  #request(request, response) {
    const onward = http.request(new URL(request.url, this.target), {
      method: request.method,
      headers: without(request.headers),
    }, (answer) => {
      response.writeHead(answer.statusCode, without(answer.headers));
      answer.pipe(response);
      answer.on('end', () => {
        this.requests.push({ method: request.method, path: request.url, status: answer.statusCode });
        this.emit('change');
      });
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  }

  #upgrade(request, stream, head) {
    stream.on('error', () => {});
    const url = new URL(request.url, this.target);
    const path = url.pathname;
    url.protocol = 'ws:';
    const { authorization } = request.headers;
    const engine = new WebSocket(url, { headers: authorization ? { authorization } : {} });
    const early = [];
    engine.on('message', (data) => early.push(data));
    engine.on('error', () => stream.destroy());
    engine.on('unexpected-response', (_, answer) => {
      answer.resume();
      this.upgrades.push({ path, status: answer.statusCode });
      this.emit('change');
      stream.end(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    });
    engine.on('open', () => this.upgrader.handleUpgrade(request, stream, head, (broker) => {
      this.upgrades.push({ path, status: 101 });
      this.emit('change');
      engine.removeAllListeners('message');
      const pass = (from, to) => (data, binary) => {
        if (path === '/v1/node/ws') this.#frame(from, data);
        if (to.readyState === WebSocket.OPEN) to.send(data, { binary });
      };
      for (const data of early) pass('engine', broker)(data, false);
      broker.on('message', pass('broker', engine));
      engine.on('message', pass('engine', broker));
      for (const [one, other] of [[broker, engine], [engine, broker]]) {
        this.sockets.add(one);
        one.on('error', () => {});
        one.on('close', (code, reason) => {
          this.sockets.delete(one);
          if (code >= 1000 && code < 1004 || code >= 3000) other.close(code, reason);
          else other.terminate();
        });
      }
    }));
  }

  #frame(from, data) {
    const text = data.toString();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      // Kept as text; the reader of `frames` judges it.
    }
    this.frames.push({ from, text, frame });
    this.emit('change');
  }

  /** The frames of one side, of one type if given. */
  of(from, type) {
    return this.frames.filter((entry) => entry.from === from && (!type || entry.frame?.type === type)).map((entry) => entry.frame);
  }

  /** Until `look(proxy)` is neither false nor empty; what it returned. */
  async seen(look, what, ms = 15_000) {
    const now = look(this);
    if (now) return now;
    return new Promise((ok, fail) => {
      const check = () => {
        const found = look(this);
        if (found) end(() => ok(found));
      };
      const timer = setTimeout(() => end(() => fail(new Error(`waited ${ms} ms for ${what} to pass the proxy`))), ms);
      const end = (how) => {
        clearTimeout(timer);
        this.off('change', check);
        how();
      };
      this.on('change', check);
    });
  }

  /** Cuts every socket, without a goodbye. */
  cut() {
    for (const socket of [...this.sockets]) socket.terminate();
  }

  async stop() {
    this.cut();
    for (const stream of this.streams) stream.destroy();
    await new Promise((ok) => { this.server.close(ok); });
  }
}

function without(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name)));
}
