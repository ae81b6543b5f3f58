// Express with `compression` in front of the bridge whose URL is the only argument; prints the port it listens on.
import compression from 'compression';
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';

const app = express();
app.use(compression({ threshold: 0 }));
app.use(createProxyMiddleware({ target: process.argv[2] }));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
