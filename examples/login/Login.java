// A login with sessions, and the token endpoint for the bridge. login.py and login.mjs do the same.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.util.Base64;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

import static java.nio.charset.StandardCharsets.UTF_8;

class Login {
    static final Map<String, String> ENV = System.getenv();
    static final String BRIDGE = ENV.getOrDefault("BRIDGE", "http://localhost:8004");
    static final byte[] KEY = ENV.get("WSBRIDGE_JWT_SECRET").getBytes(UTF_8);
    static final int LIFETIME = 600; // seconds of a token
    static final Pattern SESSION = Pattern.compile("(?:^|; )session=([^;]*)");
    static final Map<String, String> sessions = new ConcurrentHashMap<>(); // session → user

    static String page;

    public static void main(String[] args) throws IOException {
        page = Files.readString(Path.of("index.html")).replace("{{BRIDGE}}", BRIDGE);
        var address = new InetSocketAddress("127.0.0.1", Integer.parseInt(ENV.getOrDefault("PORT", "3000")));
        var server = HttpServer.create(address, 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Login::handle);
        server.start();
    }

    static void handle(HttpExchange exchange) throws IOException {
        var session = sessionOf(exchange);
        var user = sessions.get(session);
        switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
            case "GET /" -> {
                exchange.getResponseHeaders().set("Content-Type", "text/html; charset=utf-8");
                answer(exchange, 200, page);
            }
            case "GET /me" -> answer(exchange, user == null ? 401 : 200, user);
            case "GET /tasks" -> tasks(exchange, user);
            case "POST /login" -> login(exchange);
            case "POST /token" -> answer(exchange, user == null ? 401 : 200, user == null ? null : token(user));
            case "POST /logout" -> {
                sessions.remove(session);
                answer(exchange, 204, null);
            }
            default -> answer(exchange, 404, null);
        }
    }

    static void tasks(HttpExchange exchange, String user) throws IOException {
        if (user == null) answer(exchange, 401, null);
        else if (!("user=" + user).equals(exchange.getRequestURI().getQuery())) answer(exchange, 403, null); // another user's page
        else answer(exchange, 200, "[{\"task_id\":\"1\",\"title\":\"A task of " + user + "\"}]");
    }

    static void login(HttpExchange exchange) throws IOException {
        var form = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
        var name = URLDecoder.decode(form.replaceFirst("^name=", ""), UTF_8);
        if (!name.matches("[\\w.-]{1,64}")) { // so it needs no escape in JSON
            answer(exchange, 400, null);
            return;
        }
        var session = UUID.randomUUID().toString(); // from a secure random generator
        sessions.put(session, name); // a real login checks a password before
        var cookie = "session=" + session + "; Path=/; HttpOnly; SameSite=Lax"; // with HTTPS also Secure
        exchange.getResponseHeaders().set("Set-Cookie", cookie);
        answer(exchange, 204, null);
    }

    static String sessionOf(HttpExchange exchange) {
        var cookie = exchange.getRequestHeaders().getFirst("Cookie");
        var found = SESSION.matcher(cookie == null ? "" : cookie);
        return found.find() ? found.group(1) : "";
    }

    static String token(String user) {
        var claims = "{\"sub\":\"" + user + "\",\"exp\":" + (System.currentTimeMillis() / 1000 + LIFETIME) + "}";
        var signed = base64("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(UTF_8)) + "." + base64(claims.getBytes(UTF_8));
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(KEY, "HmacSHA256"));
            return signed + "." + base64(mac.doFinal(signed.getBytes(UTF_8)));
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // every Java has this algorithm
        }
    }

    static String base64(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    static void answer(HttpExchange exchange, int status, String text) throws IOException {
        try (exchange) {
            exchange.getResponseHeaders().set("Cache-Control", "no-store");
            var body = text == null ? new byte[0] : text.getBytes(UTF_8);
            exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
            if (body.length > 0) exchange.getResponseBody().write(body);
        }
    }
}
