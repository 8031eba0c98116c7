// What Node asks of an emulator: code that is written while it runs, in several threads, deoptimised and thrown away; WebAssembly
// whose bounds are checked by guard pages; child processes. Prints "node ok".
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const assert = require('assert');
const crypto = require('crypto');
const { spawn, execFileSync } = require('child_process');
const net = require('net');
const zlib = require('zlib');

function hot(n) {                       // integers, then doubles, then objects: optimised, deoptimised
    let s = 0;
    const add = (a, b) => a + b;
    for (let i = 0; i < n; i++) s = add(s, i & 7);
    for (let i = 0; i < n; i++) s = add(s, 0.5);
    const text = add('x', { toString: () => 'y' });
    return text + s;
}

function collect(n) {
    let keep = [];
    for (let i = 0; i < n; i++) {
        keep.push({ i, a: new Array(10).fill(i), s: 'k' + i });
        if (keep.length > 5000) keep = keep.slice(4000);
    }
    return keep.every(k => k.a[9] === k.i && k.s === 'k' + k.i);
}

function evaluated(n) {                 // fresh functions: code space grows and is collected
    let s = 0;
    for (let i = 0; i < n; i++) {
        const f = new Function('x', `let t = 0; for (let k = 0; k < 200; k++) t += x ^ ${i}; return t;`);
        s = (s + f(i + 1)) | 0;
    }
    return s;
}

function regex() {
    const text = 'The 12 quick brown foxes, 345 lazy dogs. '.repeat(500);
    return text.match(/\d+/g).length + text.replace(/(\w+) (\w+)/g, '$2 $1').length;
}

function wasmModule() {
    const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
    const section = (id, body) => bytes.push(id, body.length, ...body);
    const name = s => [s.length, ...Buffer.from(s)];
    const sum = [1, 1, 0x7f, 0x03, 0x40, 0x20, 0, 0x20, 1, 0x6a, 0x21, 1, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 1, 0x0b];
    const load = [0, 0x20, 0, 0x28, 2, 0, 0x0b];
    section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]);
    section(3, [2, 0, 0]);
    section(5, [1, 0, 1]);
    section(7, [3, ...name('m'), 2, 0, ...name('sum'), 0, 0, ...name('load'), 0, 1]);
    section(10, [2, sum.length, ...sum, load.length, ...load]);
    return new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports;
}

function webassembly() {
    const { sum, load } = wasmModule();
    for (let i = 0; i < 200; i++) assert.strictEqual(sum(1000), 500500);
    let traps = 0;
    for (let i = 0; i < 100; i++)
        try { load(65536 + i * 4096); } catch (e) { traps += e instanceof WebAssembly.RuntimeError; }
    assert.strictEqual(traps, 100);
}

function stack() {
    const deep = n => n + deep(n + 1);
    for (let i = 0; i < 3; i++) assert.throws(() => deep(0), RangeError);
}

function compute() {
    assert.strictEqual(hot(200000), 'xy' + (0 + 7 * 100000 - 0 + 100000).toString());
    assert(collect(60000));
    assert.strictEqual(evaluated(300), evaluated(300));
    assert.strictEqual(regex(), 1000 + 20500);
    webassembly();
    stack();
    assert.strictEqual(crypto.createHash('sha256').update('rhea'.repeat(10000)).digest('hex').slice(0, 16), '6b126a7a67959887');
    const data = crypto.randomBytes(50000);
    assert(zlib.gunzipSync(zlib.gzipSync(data)).equals(data));
    assert.strictEqual(2n ** 521n % 1000007n, 2n ** 521n - 1000007n * (2n ** 521n / 1000007n));
}

if (!isMainThread) {
    compute();
    const shared = new Int32Array(workerData);
    for (let i = 0; i < 10000; i++) Atomics.add(shared, 0, 1);
    Atomics.notify(shared, 1);
    parentPort.postMessage('done');
} else {
    main().then(() => console.log('node ok'), e => { console.log('FAILED', e); process.exit(1); });
}

function workers(n) {
    const memory = new SharedArrayBuffer(8);
    const all = [];
    for (let i = 0; i < n; i++)
        all.push(new Promise((ok, bad) => {
            const w = new Worker(__filename, { workerData: memory });
            w.on('message', ok); w.on('error', bad);
        }));
    return Promise.all(all).then(() => assert.strictEqual(new Int32Array(memory)[0], 10000 * n));
}

function ended() {                      // a worker in a loop is ended: a stack guard in the middle of optimised code
    return new Promise((ok, bad) => {
        const w = new Worker('for (;;);', { eval: true });
        w.on('online', () => setTimeout(() => w.terminate().then(ok, bad), 100));
    });
}

function echo() {
    return new Promise((ok, bad) => {
        const server = net.createServer(c => c.pipe(c)).listen(0, '127.0.0.1', () => {
            const c = net.connect(server.address().port, '127.0.0.1');
            let n = 0;
            c.on('data', d => { n += d.length; if (n === 300000) { c.end(); server.close(); ok(); } });
            c.on('error', bad);
            c.end(Buffer.alloc(300000, 1));
        });
    });
}

function children() {
    assert.strictEqual(execFileSync(process.execPath, ['-e', 'console.log(6 * 7)']).toString(), '42\n');
    return new Promise((ok, bad) => {
        const c = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000); console.log("up")']);
        c.stdout.once('data', () => c.kill());
        c.on('exit', (code, sig) => sig === 'SIGTERM' ? ok() : bad(new Error(`child: ${code} ${sig}`)));
    });
}

async function main() {
    const rsa = new Promise((ok, bad) => crypto.generateKeyPair('rsa', { modulusLength: 1024 }, (e, k) => e ? bad(e) : ok(k)));
    compute();
    await workers(3);
    await ended();
    await echo();
    await children();
    const got = new Promise(ok => process.once('SIGUSR2', ok)), alive = setInterval(() => {}, 1000);
    process.kill(process.pid, 'SIGUSR2');
    await got;
    clearInterval(alive);
    await rsa;
}
