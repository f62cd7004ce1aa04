// A writer (see writers.py) by PostgreSQL's JDBC driver with its default settings.

import java.io.*;
import java.sql.*;
import java.util.*;

public class Writer {
    static final Map<String, String> env = System.getenv();
    static final double shift = System.currentTimeMillis() / 1e3 - System.nanoTime() / 1e9;
    static final int run = Integer.parseInt(env.get("WRITER_RUN"));
    static final int client = Integer.parseInt(env.get("WRITER_CLIENT"));
    static final String shape = env.get("WRITER_SHAPE");
    static final List<String> attempts = new ArrayList<>(), connects = new ArrayList<>();
    static final Object lock = new Object();
    static volatile boolean isOver;
    // What is under way: since when, and since when its statement; 0 = nothing is.
    static double begin, statementBegin, wait, connectBegin;

    static double now() {
        return System.nanoTime() / 1e9 + shift;
    }

    static void pause(String name) throws InterruptedException {
        Thread.sleep(Math.round(Double.parseDouble(env.get(name)) * 1e3));
    }

    static String quoted(String text) {
        if (text == null)
            return "null";
        String line = text.strip().split("\n")[0].replaceAll("[\\\\\"\\p{Cntrl}]", " ");
        return '"' + line.substring(0, Math.min(line.length(), 200)) + '"';
    }

    static String told(String state, SQLException error) {
        return error == null ? quoted(state) + ",null,null"
                             : quoted(state) + "," + quoted(error.getSQLState()) + "," + quoted(error.getMessage());
    }

    static void ended(String told) {
        synchronized (lock) {
            attempts.add(String.format(Locale.ROOT, "[%d,%.6f,%.6f,%.6f,%s]", attempts.size() + 1, begin, now(),
                                       wait, told));
            begin = 0;
        }
    }

    static void connected(String told) {
        synchronized (lock) {
            connects.add(String.format(Locale.ROOT, "[%.6f,%.6f,%s]", connectBegin, now(), told));
            connectBegin = 0;
        }
    }

    interface Call {
        void run() throws SQLException;
    }

    static void statement(Call call) throws SQLException {
        synchronized (lock) {
            statementBegin = now();
        }
        try {
            call.run();
        } finally {
            synchronized (lock) {
                wait = Math.max(wait, now() - statementBegin);
                statementBegin = 0;
            }
        }
    }

    static Connection connect() throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", env.get("PGUSER"));
        properties.setProperty("password", env.get("PGPASSWORD"));
        properties.setProperty("sslmode", env.get("PGSSLMODE"));
        synchronized (lock) {
            connectBegin = now();
        }
        try {
            Connection made = DriverManager.getConnection(
                "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE"),
                properties);
            connected(told("ok", null));
            return made;
        } catch (SQLException error) {
            connected(told("failed", error));
            throw error;
        }
    }

    static void insert(Connection connection, int number, int part) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(
                 "insert into bench_rows (run, client, number, part) values (?, ?, ?, ?)")) {
            statement.setInt(1, run);
            statement.setInt(2, client);
            statement.setInt(3, number);
            statement.setInt(4, part);
            statement(() -> statement.executeUpdate());
        }
    }

    static void write(Connection connection) throws SQLException, InterruptedException {
        int number = attempts.size() + 1;
        boolean isTransaction = shape.equals("transactions");
        for (int part = 1; part <= (isTransaction ? 2 : 1); part++) {
            insert(connection, number, part);
            if (isTransaction)
                pause("WRITER_THINK");
        }
        if (isTransaction)
            statement(() -> connection.commit());
    }

    // What pools of connections go by: the classes after which one is not used again.
    static boolean isLost(Connection connection, SQLException error) throws SQLException {
        String state = error.getSQLState();
        return connection.isClosed() || state == null || state.startsWith("08") || state.startsWith("57P0");
    }

    static void work() throws InterruptedException {
        Connection connection = null;
        while (!isOver) {
            pause("WRITER_PAUSE");
            try {
                if (connection == null) {
                    connection = connect();
                    if (shape.equals("transactions"))
                        connection.setAutoCommit(false);
                }
                synchronized (lock) {
                    begin = now();
                    wait = 0;
                }
                write(connection);
                ended(told("ok", null));
                if (shape.equals("reconnect")) {
                    connection.close();
                    connection = null;
                }
            } catch (SQLException error) {
                if (begin != 0)
                    ended(told("failed", error));
                connection = usable(connection, error);
                pause("WRITER_ERROR_PAUSE");
            }
        }
    }

    static Connection usable(Connection connection, SQLException error) {
        if (connection == null)
            return null;
        try {
            if (!shape.equals("reconnect") && !isLost(connection, error)) {
                if (!connection.getAutoCommit())
                    connection.rollback();
                return connection;
            }
            connection.close();
        } catch (SQLException again) {
            try {
                connection.close();
            } catch (SQLException ignored) {
            }
        }
        return null;
    }

    static void save() throws IOException {
        synchronized (lock) {
            if (begin != 0) {
                wait = statementBegin == 0 ? wait : Math.max(wait, now() - statementBegin);
                ended("\"hung\",null,\"no answer\"");
            }
            if (connectBegin != 0)
                connected("\"hung\",null,\"no answer to connecting\"");
            try (FileWriter file = new FileWriter(env.get("WRITER_RESULT"))) {
                file.write("{\"client\":" + client + ",\"kind\":\"jdbc\",\"attempts\":[" + String.join(",", attempts) +
                           "],\"connects\":[" + String.join(",", connects) + "]}");
            }
        }
    }

    public static void main(String[] arguments) {
        Thread worker = new Thread(() -> {
            try {
                work();
            } catch (Throwable error) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            isOver = true;
            try {
                worker.join(2000);
                save();
            } catch (Exception error) {
                error.printStackTrace();
            }
            Runtime.getRuntime().halt(0);
        }));
        worker.start();
    }
}
